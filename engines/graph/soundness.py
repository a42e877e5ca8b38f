"""Refuses graphs that cannot be computed, in plainer words than ONNX's checker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from engines.failures import EngineFailure, FailureReason
from engines.graph.walk import all_nodes, all_tensors, subgraphs

if TYPE_CHECKING:
    import onnx

_DEFAULT_DOMAINS = frozenset({"", "ai.onnx"})


def refuse_broken(model: onnx.ModelProto) -> None:
    """Refuse a model with a cycle, an unknown operator, values that no node computes, empty weights, or no output.

    Operators of other domains are left to the runtimes, which may have them.

    Raises:
        EngineFailure: INVALID_MODEL naming the node, its operator or the value.
    """
    _check_operators(model)
    _check_weights(model)
    if not model.graph.output:
        _refuse("The graph has no output.", fix="Name the outputs when exporting it, and upload the whole file.")
    _check_graph(model.graph, frozenset())


def _check_operators(model: onnx.ModelProto) -> None:
    import onnx

    own = {(function.domain, function.name) for function in model.functions}
    for node in all_nodes(model):
        known = (node.domain, node.op_type) in own or onnx.defs.has(node.op_type)
        if node.domain in _DEFAULT_DOMAINS and not known:
            _refuse(
                f"The node '{_name(node)}' is a '{node.op_type}', which is not an ONNX operator.",
                node,
                "Export the model with operators of ONNX, or name the domain of the library that defines this one.",
            )


def _check_weights(model: onnx.ModelProto) -> None:
    import onnx

    for tensor in all_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or 0 in tensor.dims or not tensor.data_type:
            continue
        if not any(len(getattr(tensor, field.name)) for field in tensor.DESCRIPTOR.fields if field.name in _DATA):
            _refuse(f"The weights '{tensor.name}' of shape {list(tensor.dims)} have 0 bytes; the file is incomplete.")


_DATA = frozenset({"raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data"})


def _check_graph(graph: onnx.GraphProto, outer: frozenset[str]) -> None:
    given = outer | {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    given |= {tensor.values.name for tensor in graph.sparse_initializer}
    makers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in filter(None, node.output):
            if name in makers:
                _refuse(
                    f"Two nodes compute the value '{name}': '{_name(graph.node[makers[name]])}' and '{_name(node)}'.",
                    node,
                )
            makers[name] = index
    for node in graph.node:
        missing = next((name for name in node.input if name and name not in given and name not in makers), None)
        if missing is not None:
            _refuse(f"The node '{_name(node)}' reads the value '{missing}', which nothing in the graph computes.", node)
    lost = next((value.name for value in graph.output if value.name not in given and value.name not in makers), None)
    if lost is not None:
        _refuse(f"None of the graph's {len(graph.node)} nodes computes its output '{lost}'.")
    _check_order(graph.node, given, makers)
    seen = given | makers.keys()
    for node in graph.node:
        for inner in subgraphs(node):
            _check_graph(inner, seen)


def _check_order(nodes: Sequence[Any], given: frozenset[str], makers: dict[str, int]) -> None:
    """Refuse nodes that wait for each other."""
    needs = [{makers[name] for name in node.input if name in makers and name not in given} for node in nodes]
    users: dict[int, list[int]] = {}
    for index, needed in enumerate(needs):
        for maker in needed:
            users.setdefault(maker, []).append(index)
    waiting = [len(needed) for needed in needs]
    ready = [index for index, count in enumerate(waiting) if not count]
    done = 0
    while ready:
        done += 1
        for user in users.get(ready.pop(), ()):
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)
    if done == len(nodes):
        return
    index = next(index for index, count in enumerate(waiting) if count)
    path: list[int] = []
    while index not in path:
        path.append(index)
        index = next(maker for maker in needs[index] if waiting[maker])
    names = [_name(nodes[each]) for each in (*path[path.index(index) :], index)]
    shown = [*names[:5], "…", names[-1]] if len(names) > 6 else names
    _refuse(f"The graph has a cycle: {' needs '.join(repr(name) for name in shown)}.", nodes[index])


def _name(node: Any) -> str:
    return str(node.name or f"{node.op_type} of {', '.join(node.output)}")


def _refuse(
    message: str, node: Any = None, fix: str = "Export the model again, and upload the whole file."
) -> NoReturn:
    raise EngineFailure(
        FailureReason.INVALID_MODEL,
        message,
        node=_name(node) if node is not None else "",
        operator=str(node.op_type) if node is not None else "",
        suggested_fix=fix,
    )
