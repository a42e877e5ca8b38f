"""Finds the inputs and outputs of a TensorFlow graph: placeholders, and nodes that nobody consumes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engines.failures import EngineFailure, FailureReason
from engines.formats.tensorflow.graph import Graph, Node

_PLACEHOLDERS = frozenset({"Placeholder", "PlaceholderV2"})
_NO_RESULT = frozenset(
    {"NoOp", "Assert", "Const", "PlaceholderWithDefault", "SaveV2", "RestoreV2", "MergeV2Checkpoints", "Print"}
    | {"PrintV2", "ShardedFilename", "WriteSummary"}
)
"""Operators that are not results although nobody consumes them."""


@dataclass(frozen=True)
class Ends:
    """Where values go in and come out.

    Attributes:
        inputs: The placeholders, or the nodes named.
        outputs: The nodes that nobody consumes, or those named.
    """

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]


def node_of(tensor: str) -> str:
    """Return the name of the node that makes a tensor: `x` of `x`, `x:1` and `^x`."""
    return tensor.removeprefix("^").partition(":")[0]


def find_ends(graph: Graph, inputs: Sequence[str] = (), outputs: Sequence[str] = ()) -> Ends:
    """Return the ends of a frozen graph.

    Args:
        graph: The graph.
        inputs: Tensors or nodes where values go in; the placeholders that the outputs need if empty.
        outputs: Tensors or nodes whose values come out; the nodes that nobody consumes if empty.

    Raises:
        EngineFailure: INVALID_MODEL for a graph that has variables, or without inputs or outputs; INVALID_SPEC for
            names that the graph does not have, or that are not enough.
    """
    nodes = {node.name: node for node in graph.nodes}
    if variables := graph.variables:
        raise _invalid(
            f"The graph is not frozen: it has {len(variables)} variables, such as '{variables[0]}', and not their "
            "values.",
            "Upload the SavedModel, or freeze the graph: its variables have to be constants.",
        )
    entries = [_named(name, nodes, "input") for name in inputs]
    results = [_named(name, nodes, "output") for name in outputs] or _sinks(graph, nodes)
    reached = _ancestors(results, nodes, {node.name for node in entries})
    needed = [node for node in graph.nodes if node.op in _PLACEHOLDERS and node.name in reached]
    missing = [node.name for node in needed if node not in entries]
    if entries and missing:
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The outputs {_list(node.name for node in results)} need the placeholder {_list(missing)} too, which the "
            "component does not declare as an input.",
            suggested_fix="Declare it, or name only outputs that do not need it.",
        )
    if not (entries or needed):
        raise _invalid("The graph has no placeholder that its outputs depend on: nothing can go in.")
    return Ends(tuple(entries or needed), tuple(results))


def _sinks(graph: Graph, nodes: dict[str, Node]) -> list[Node]:
    """Return the results that nobody consumes; a summary for TensorBoard counts as nobody."""
    consumed = {
        node_of(tensor)
        for node in graph.nodes
        if not node.op.endswith("Summary")
        for tensor in node.inputs
        if not tensor.startswith("^")
    }
    placeholders = {node.name for node in graph.nodes if node.op in _PLACEHOLDERS}
    free = [node for node in graph.nodes if node.name not in consumed and node.op not in _NO_RESULT | _PLACEHOLDERS]
    results = [node for node in free if not node.op.endswith("Summary")]
    results = [node for node in results if placeholders & _ancestors([node], nodes, set())]
    if results:
        return results
    operators = _list(sorted({node.op for node in graph.nodes}))
    control = all(node.op in _NO_RESULT for node in graph.nodes)
    what = f"it holds control nodes alone ({operators})" if control else "no node computes anything that comes out"
    raise _invalid(
        f"The graph of {len(graph.nodes)} nodes has no output: {what}.",
        "Freeze the graph with the names of its outputs, or name them in the component's `output_names`.",
    )


def _ancestors(ends: Iterable[Node], nodes: dict[str, Node], stop: set[str]) -> set[str]:
    """Return the names of all nodes that the ends depend on, not looking behind those of `stop`."""
    found: set[str] = set()
    waiting = [node.name for node in ends]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        if name not in stop and name in nodes:
            waiting += [node_of(tensor) for tensor in nodes[name].inputs]
    return found


def _named(name: str, nodes: dict[str, Node], what: str) -> Node:
    node = nodes.get(node_of(name))
    if node is None:
        have = _list(node.name for node in nodes.values() if node.op in _PLACEHOLDERS) if what == "input" else ""
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The graph has no node '{node_of(name)}' for the {what} '{name}'"
            + (f"; its placeholders are {have}." if have else f"; its last node is '{list(nodes)[-1]}'."),
            node=name,
        )
    return node


def _list(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(f"'{name}'" for name in found[:10]) + (f" and {len(found) - 10} more" if len(found) > 10 else "")


def _invalid(message: str, fix: str = "Upload the frozen graph of the model, whole.") -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_MODEL, message, suggested_fix=fix)
