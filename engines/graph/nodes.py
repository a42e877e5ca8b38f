"""Nodes of graphs for quantizers: names for all of them, users' names looked up, kinds told apart."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.graph.walk import reads


def name_nodes(model: Any) -> None:
    """Give a unique name to every node of the main graph that has none, or shares one."""
    taken: set[str] = set()
    for position, node in enumerate(model.graph.node):
        name = node.name or f"{node.op_type}_{position}"
        while name in taken:
            name = f"{name}_{position}"
        node.name = name
        taken.add(name)


def products_of_activations(model: Any) -> frozenset[str]:
    """Return the matrix products without a weight among their factors, like those of attention."""
    constants = {tensor.name for tensor in model.graph.initializer}
    products = (node for node in model.graph.node if node.op_type == "MatMul")
    return frozenset(node.name for node in products if constants.isdisjoint(node.input))


def separate_integers(model: Any) -> None:
    """Give every use of an int8 parameter its own copy: zero points, which tools share if they are equal.

    For exact sums, ONNX Runtime turns int8 parameters into unsigned ones, and fails on a shared one.
    """
    import onnx

    integers = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    used: dict[str, int] = {}
    for node in model.graph.node:
        for position, name in enumerate(node.input):
            if name not in integers:
                continue
            used[name] = used.get(name, 0) + 1
            if used[name] > 1:
                own = onnx.TensorProto()
                own.CopyFrom(integers[name])
                own.name = node.input[position] = f"{name}/use_{used[name]}"
                model.graph.initializer.append(own)


def drop_unused(model: Any) -> None:
    """Remove parameters that nothing reads any more, as they were folded or compressed; inputs keep their defaults."""
    used = {name for node in model.graph.node for name in reads(node)}
    used |= {value.name for value in (*model.graph.input, *model.graph.output)}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    if len(kept) == len(model.graph.initializer):
        return
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def check_excluded(excluded: Iterable[str], names: Collection[str]) -> None:
    """Refuse names that no node has.

    Raises:
        EngineFailure: INVALID_SPEC with the name and similar ones.
    """
    for name in excluded:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=5, cutoff=0.5)
            near = f"Similar names: {', '.join(close)}." if close else "There is no similar name."
            raise EngineFailure(
                FailureReason.INVALID_SPEC,
                f"The graph has no node '{name}' to keep in floating point. {near}",
                node=name,
                suggested_fix="Take names from the report of an earlier quantization of this model, which lists them.",
            )
