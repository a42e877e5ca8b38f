"""Exposes values inside a graph as outputs, to find the first node that diverges."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engines.graph.scopes import innermost

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Value:
    """A value that a node of the main graph computes.

    Attributes:
        name: Name of the value.
        node: Name of the node; the value's if it has none.
        operator: Operator type of the node.
        module: Module of the PyTorch network that the node comes from; empty if the graph does not state it.
    """

    name: str
    node: str
    operator: str
    module: str = ""


def list_values(model: onnx.ModelProto) -> list[Value]:
    """Return every value that a node of the main graph computes, in the graph's topological order."""
    return [
        Value(output, node.name or output, node.op_type, innermost(node))
        for node in model.graph.node
        for output in node.output
        if output
    ]


def expose_intermediates(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Return the model with more outputs: the named values, after its own, in the given order.

    Args:
        model: A model; run `tidy` on it first, so that the new outputs carry types.
        names: Values of `list_values`; those that are outputs already are skipped.

    Raises:
        ValueError: A name is not one of a value that a node computes.
    """
    import onnx

    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    computed = {value.name for value in list_values(model)}
    types = {value.name: value for value in model.graph.value_info}
    present = {output.name for output in model.graph.output}
    for name in names:
        if name not in computed:
            raise ValueError(f"no node of the graph computes '{name}'")
        if name not in present:
            present.add(name)
            exposed.graph.output.append(types.get(name) or onnx.ValueInfoProto(name=name))
    return exposed
