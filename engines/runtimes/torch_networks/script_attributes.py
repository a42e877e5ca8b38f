"""The attributes of a TorchScript program that a call reads or writes, by its graph: torch has no list of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def script_attributes(script: Any) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the path of each attribute, the C++ module that has it, and its value; modules are left out.

    Lists and dictionaries arrive as copies, tensors as they are. What objects of TorchScript classes hold is left out:
    Python cannot read it.
    """
    import torch

    for path in _paths(script.inlined_graph):
        owner = script._c
        try:
            for place in path[:-1]:
                owner = owner.getattr(place)
            value = owner.getattr(path[-1])
        except (AttributeError, RuntimeError):
            continue
        if not isinstance(value, torch._C.ScriptModule):
            yield path, owner, value


def _paths(graph: Any) -> list[tuple[str, ...]]:
    """Return the paths of the attributes that a graph gets or sets, from the module downwards."""
    paths: dict[str, tuple[str, ...]] = {next(graph.inputs()).debugName(): ()}
    found: dict[tuple[str, ...], None] = {}
    for node in _nodes(graph):
        if node.kind() not in {"prim::GetAttr", "prim::SetAttr"}:
            continue
        owner = paths.get(next(node.inputs()).debugName())
        if owner is None:  # an element of a list of objects: the list is an attribute itself
            continue
        path = (*owner, node.s("name"))
        if node.kind() == "prim::GetAttr":
            paths[node.output().debugName()] = path
        found[path] = None
    return list(found)


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)
