"""Repairs graphs that ONNX allows but some runtime refuses; they compute the same afterwards.

Repairs are made in place, without reading weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from engines.graph.naming import free_name, value_names
from engines.graph.walk import all_graphs, all_nodes

if TYPE_CHECKING:
    import onnx

_SPELLED_OUT = "ai.onnx"
_DEFAULTS_FROM = 4
"""The IR version from which an initializer that is also an input is a default that callers may override."""


def repair(model: onnx.ModelProto, wanted: Collection[str]) -> bool:
    """Repair a model in place; return whether anything changed.

    Args:
        model: The model.
        wanted: Inputs that stay inputs although they have a default.
    """
    changes = (
        type_outputs(model),
        settle_defaults(model, wanted),
        separate_outputs(model),
        name_nodes_apart(model),
        _complete(model),
        _drop_unused_outputs(model),
    )
    return any(changes)


def name_nodes_apart(model: onnx.ModelProto) -> bool:
    """Give nodes that share a name names of their own, except the first; return whether there were any.

    ONNX gives node names no meaning, but runtimes refuse a graph with duplicates.
    """
    scopes = [[node for graph in all_graphs(model) for node in graph.node]]
    scopes += [list(function.node) for function in model.functions]
    return sum(_name_apart(nodes) for nodes in scopes) > 0


def separate_outputs(model: onnx.ModelProto) -> bool:
    """Make each output of a graph a value of its own; return whether one was duplicate, or an input.

    The first keeps its name: if `y` is listed twice, the outputs are `y` and `y_2`. Branches and bodies are treated
    like the graph.
    """
    from onnx import helper

    changed = False
    taken = value_names(model)
    for graph in all_graphs(model):
        seen = {value.name for value in graph.input}
        for output in graph.output:
            if output.name in seen:
                name = free_name(output.name, taken)
                graph.node.append(helper.make_node("Identity", [output.name], [name]))
                output.name = name
                changed = True
            seen.add(output.name)
    return changed


def type_outputs(model: onnx.ModelProto) -> bool:
    """Give outputs without a type the inferred one; return whether there are any."""
    import onnx

    untyped = [output for output in model.graph.output if not output.type.WhichOneof("value")]
    if not untyped:
        return False
    inferred = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.output}
    for output in untyped:
        output.type.CopyFrom(inferred[output.name].type)
    return True


def defaults(model: onnx.ModelProto) -> list[str]:
    """Return the optional inputs: those with an initializer of the same name as their default."""
    if model.ir_version < _DEFAULTS_FROM:
        return []
    graph = model.graph
    values = {tensor.name for tensor in graph.initializer} | {each.values.name for each in graph.sparse_initializer}
    return [value.name for value in graph.input if value.name in values]


def settle_defaults(model: onnx.ModelProto, wanted: Collection[str]) -> bool:
    """Make inputs with a default required if they are wanted, else constants; return whether there are any."""
    names = set(defaults(model))
    kept = names.intersection(wanted)
    _drop(model.graph.initializer, lambda tensor: tensor.name in kept)
    _drop(model.graph.sparse_initializer, lambda tensor: tensor.values.name in kept)
    _drop(model.graph.input, lambda value: value.name in names - kept)
    return bool(names)


def _complete(model: onnx.ModelProto) -> bool:
    """Name graphs without a name, and write the domain of ONNX's operators as empty, like every tool."""
    unnamed = [graph for graph in all_graphs(model) if not graph.name]
    for graph in unnamed:
        graph.name = "graph"
    imports = [*model.opset_import, *(entry for function in model.functions for entry in function.opset_import)]
    spelled = [entry for entry in (*all_nodes(model), *imports) if entry.domain == _SPELLED_OUT]
    for entry in spelled:
        entry.domain = ""
    return bool(unnamed or spelled)


def _drop_unused_outputs(model: onnx.ModelProto) -> bool:
    """Drop empty names at the end of node outputs, which stand for unused outputs."""
    changed = False
    for node in all_nodes(model):
        while node.output and not node.output[-1]:
            del node.output[-1]
            changed = True
    return changed


def _name_apart(nodes: Iterable[Any]) -> bool:
    named = [node for node in nodes if node.name]
    taken = {node.name for node in named}
    changed = len(taken) < len(named)
    seen: set[str] = set()
    for node in named if changed else ():
        if node.name in seen:
            node.name = free_name(node.name, taken)
        seen.add(node.name)
    return changed


def _drop(entries: Any, unwanted: Callable[[Any], bool]) -> None:
    for index in reversed([index for index, entry in enumerate(entries) if unwanted(entry)]):
        del entries[index]
