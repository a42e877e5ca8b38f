"""Gives every use of a shared parameter a copy of its own, for builders that pack weights per node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.graph.naming import value_names
from engines.graph.walk import all_nodes

if TYPE_CHECKING:
    import onnx


def copy_parameters(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in which no two uses read the same initializer of the main graph.

    The first use keeps the name; others read `<name>_copy1`, `<name>_copy2`… A parameter that callers may override,
    because it is an input of the graph too, and one whose name a subgraph hides, stay shared.
    """
    import onnx

    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    graph = copied.graph
    fixed = {value.name for value in graph.input} | _hidden_names(copied)
    parameters = {tensor.name: tensor for tensor in graph.initializer if tensor.name not in fixed}
    used = {output.name for output in graph.output}
    taken = value_names(copied)
    added: list[Any] = []
    for node in all_nodes(copied):
        for position, name in enumerate(node.input):
            if name not in parameters:
                continue
            if name not in used:
                used.add(name)
                continue
            tensor = onnx.TensorProto()
            tensor.CopyFrom(parameters[name])
            tensor.name = _next_name(name, taken)
            added.append(tensor)
            node.input[position] = tensor.name
    graph.initializer.extend(added)
    return copied


def _hidden_names(model: onnx.ModelProto) -> set[str]:
    """Return names that a subgraph or a local function defines for itself."""
    names: set[str] = set()
    for function in model.functions:
        names |= {*function.input, *(name for node in function.node for name in node.output)}
    for node in all_nodes(model):
        for attribute in node.attribute:
            for subgraph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                names |= {value.name for value in (*subgraph.input, *subgraph.initializer)}
    return names


def _next_name(name: str, taken: set[str]) -> str:
    number = 1
    while f"{name}_copy{number}" in taken:
        number += 1
    taken.add(f"{name}_copy{number}")
    return f"{name}_copy{number}"
