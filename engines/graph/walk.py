"""Walks the nodes and tensors of an ONNX model, including those of subgraphs and local functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

MAX_DEPTH = 64
"""Deepest nesting of subgraphs that is followed."""


def all_nodes(model: Any) -> Iterator[Any]:
    """Yield every node of a ModelProto: of the graph, its subgraphs and the local functions."""
    yield from _nodes(model.graph.node, 0)
    for function in model.functions:
        yield from _nodes(function.node, 0)


def all_graphs(model: Any) -> Iterator[Any]:
    """Yield the graph of a ModelProto and every subgraph."""
    yield model.graph
    for node in all_nodes(model):
        for attribute in node.attribute:
            yield from _subgraphs(attribute)


def all_tensors(model: Any) -> Iterator[Any]:
    """Yield every TensorProto of a ModelProto: initializers, sparse ones, and attributes."""
    for graph in all_graphs(model):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in all_nodes(model):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def reads(node: Any) -> list[str]:
    """Return the values that a node reads, including those that its subgraphs take from the outer graph."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in _subgraphs(attribute):
            inner = {value.name for value in (*graph.input, *graph.initializer)}
            inner |= {output for inside in graph.node for output in inside.output}
            outside = [name for inside in graph.node for name in reads(inside)]
            names += [name for name in (*outside, *(value.name for value in graph.output)) if name not in inner]
    return names


def subgraphs(node: Any) -> Iterator[Any]:
    """Yield the subgraphs of a node: branches, bodies of loops."""
    for attribute in node.attribute:
        yield from _subgraphs(attribute)


def _nodes(nodes: Iterable[Any], depth: int) -> Iterator[Any]:
    if depth > MAX_DEPTH:
        raise ValueError(f"subgraphs are nested more than {MAX_DEPTH} deep")
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in _subgraphs(attribute):
                yield from _nodes(graph.node, depth + 1)


def _subgraphs(attribute: Any) -> Iterator[Any]:
    if attribute.HasField("g"):
        yield attribute.g
    yield from attribute.graphs
