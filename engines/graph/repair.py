"""Changes a graph that ONNX allows and some runtime refuses, so that every runtime takes it and it computes the same.

The changes are made in place, and look at no weights.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from engines.graph.naming import free_name, value_names
from engines.graph.walk import all_graphs

if TYPE_CHECKING:
    import onnx

_DEFAULTS_FROM = 4
"""The IR version from which on an initializer that is an input, too, is a default that callers may override."""


def repair(model: onnx.ModelProto, wanted: Collection[str]) -> bool:
    """Repair what can be repaired, and return whether anything was.

    Args:
        model: The model.
        wanted: Inputs that stay inputs although they have a default.
    """
    changes = (settle_defaults(model, wanted), separate_outputs(model), name_nodes_apart(model))
    return any(changes)


def name_nodes_apart(model: onnx.ModelProto) -> bool:
    """Give nodes that share a name names of their own, except the first; return whether there were any.

    The names of nodes are for people, but runtimes refuse a graph in which two are the same.
    """
    scopes = [[node for graph in all_graphs(model) for node in graph.node]]
    scopes += [list(function.node) for function in model.functions]
    return sum(_name_apart(nodes) for nodes in scopes) > 0


def separate_outputs(model: onnx.ModelProto) -> bool:
    """Make each output of the graph a value of its own; return whether one was listed several times.

    The first keeps its name: if `y` is listed twice, the outputs are `y` and `y_2`.
    """
    from onnx import helper

    outputs = model.graph.output
    first = {output.name: index for index, output in reversed(list(enumerate(outputs)))}
    again = [output for index, output in enumerate(outputs) if first[output.name] != index]
    taken = value_names(model)
    for output in again:
        name = free_name(output.name, taken)
        model.graph.node.append(helper.make_node("Identity", [output.name], [name]))
        output.name = name
    return bool(again)


def defaults(model: onnx.ModelProto) -> list[str]:
    """Return the inputs that a caller may leave out, because an initializer of the same name is their default."""
    if model.ir_version < _DEFAULTS_FROM:
        return []
    graph = model.graph
    values = {tensor.name for tensor in graph.initializer} | {each.values.name for each in graph.sparse_initializer}
    return [value.name for value in graph.input if value.name in values]


def settle_defaults(model: onnx.ModelProto, wanted: Collection[str]) -> bool:
    """Make inputs that have a default usual inputs, if they are wanted, and else constants; return whether any has."""
    names = set(defaults(model))
    kept = names.intersection(wanted)
    _drop(model.graph.initializer, lambda tensor: tensor.name in kept)
    _drop(model.graph.sparse_initializer, lambda tensor: tensor.values.name in kept)
    _drop(model.graph.input, lambda value: value.name in names - kept)
    return bool(names)


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
