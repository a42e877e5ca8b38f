"""Names of values in an ONNX graph: new names, and renaming the values that nodes read."""

from __future__ import annotations

from typing import Any

from engines.graph.walk import all_graphs, all_nodes


def value_names(model: Any) -> set[str]:
    """Return every name of a value in a ModelProto, those of subgraphs included."""
    names = {name for node in all_nodes(model) for name in (*node.input, *node.output)}
    for graph in all_graphs(model):
        names |= {value.name for value in (*graph.input, *graph.output, *graph.initializer)}
    return names


def unused_name(model: Any, wanted: str) -> str:
    """Return the wanted name, with a number appended if a value has it already."""
    taken = value_names(model)
    name, number = wanted, 1
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    return name


def free_name(name: str, taken: set[str]) -> str:
    """Return the name with the lowest unused number from 2 appended, and note it as taken."""
    number = 2
    while f"{name}_{number}" in taken:
        number += 1
    taken.add(f"{name}_{number}")
    return f"{name}_{number}"


def rename_uses(graph: Any, old: str, new: str) -> None:
    """Make every node that reads a value read another one, also in subgraphs that do not redefine the name."""
    for node in graph.node:
        for position, name in enumerate(node.input):
            if name == old:
                node.input[position] = new
        for attribute in node.attribute:
            for subgraph in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                if old not in {value.name for value in (*subgraph.input, *subgraph.initializer)}:
                    rename_uses(subgraph, old, new)
                    _rename_outputs(subgraph, old, new)


def _rename_outputs(graph: Any, old: str, new: str) -> None:
    """Make a subgraph that returns a value of the outer graph return another one."""
    for output in graph.output:
        if output.name == old:
            output.name = new
