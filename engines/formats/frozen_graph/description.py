"""Describes a frozen graph, and refuses whatever can be refused without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engines.formats.tensorflow.description import describe_graph
from engines.formats.tensorflow.graph import Graph, check_safe, parse_graph, tensor_spec
from engines.formats.tensorflow.graph_ends import find_ends
from engines.spec.template import Component
from engines.tensors.signature import TensorSpec


def describe_frozen_graph(path: Path, shown_path: str) -> dict[str, Any]:
    """Return the `GraphDescription` of a frozen graph; its outputs, whose types it does not say, by name alone.

    Raises:
        EngineFailure: INVALID_MODEL for another or a damaged file, or a graph without inputs or outputs; UNSAFE_MODEL
            for Python in the graph.
    """
    graph = inspect_graph(path)
    ends = find_ends(graph)
    inputs = [tensor_spec(node.name, node.dtype, node.shape).to_dict() for node in ends.inputs if node.dtype]
    outputs = ", ".join(node.name for node in ends.outputs)
    return {
        **describe_graph(graph, shown_path),
        "signature": {"inputs": inputs, "outputs": []},
        "metadata": {"format": "frozen graph", "outputs": outputs[:1000]},
    }


def inspect_graph(path: Path) -> Graph:
    """Return the graph of a file, and refuse whatever can be refused without running it.

    Raises:
        EngineFailure: INVALID_MODEL for a damaged or another file; UNSAFE_MODEL for Python in the graph.
    """
    graph = parse_graph(path)
    check_safe(graph, path)
    return graph


def placeholders(path: Path, component: Component) -> tuple[TensorSpec, ...]:
    """Return the specs of the tensors that a component's values go into: those that it names, else the placeholders.

    Raises:
        EngineFailure: as `inspect_graph` and `find_ends`.
    """
    ends = find_ends(inspect_graph(path), [given.name for given in component.inputs], component.output_names)
    names = [given.name for given in component.inputs] or [node.name for node in ends.inputs]
    return tuple(
        tensor_spec(name, node.dtype, node.shape) for name, node in zip(names, ends.inputs, strict=True) if node.dtype
    )
