"""Says what a SavedModel or a frozen graph of TensorFlow contains, without TensorFlow."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from engines.formats.described_tensors import describe_tensors, most_frequent
from engines.formats.pytorch.restricted import TensorInfo
from engines.formats.saved_model.files import SERVING, inspect_saved_model, model_file
from engines.formats.tensorflow.graph import Graph, check_safe, read_graph, tensor_spec
from engines.formats.tensorflow.graph_ends import find_ends

_HIDDEN = frozenset({"Const", "Placeholder", "NoOp", "Identity", "VarHandleOp", "ReadVariableOp"})
"""Operators of the plumbing, which say nothing of a network."""
_SAVING = re.compile(r"_traced_(save|restore)_")
"""Functions that every SavedModel has for its variables."""


def describe_saved_model(folder: Path) -> dict[str, Any]:
    """Return the `GraphDescription` of a SavedModel; its signature is `serving_default`, else the first.

    Raises:
        EngineFailure: As `inspect_saved_model`.
    """
    model = inspect_saved_model(folder)
    described = _describe(model.graph, model_file(folder).name)
    metadata = {"format": "SavedModel", "tensorflow": model.version, "signatures": ", ".join(model.signatures)}
    key = SERVING if SERVING in model.signatures else next(iter(model.signatures), "")
    if key:
        inputs, outputs = model.signatures[key]
        described["signature"] = {
            "inputs": [spec.to_dict() for spec in inputs],
            "outputs": [spec.to_dict() for spec in outputs],
        }
    return {
        **described,
        "component": "model",
        "metadata": {name: text[:1000] for name, text in metadata.items() if text},
    }


def describe_frozen_graph(path: Path, shown_path: str) -> dict[str, Any]:
    """Return the `GraphDescription` of a frozen graph; its outputs, whose types it does not say, by name alone.

    Raises:
        EngineFailure: INVALID_MODEL for another or a damaged file, or a graph without inputs or outputs; UNSAFE_MODEL
            for Python in the graph.
    """
    graph = read_graph(path)
    check_safe(graph, path)
    ends = find_ends(graph)
    inputs = [tensor_spec(node.name, node.dtype, node.shape).to_dict() for node in ends.inputs if node.dtype]
    outputs = ", ".join(node.name for node in ends.outputs)
    return {
        **_describe(graph, shown_path),
        "signature": {"inputs": inputs, "outputs": []},
        "metadata": {"format": "frozen graph", "outputs": outputs[:1000]},
    }


def _describe(graph: Graph, shown_path: str) -> dict[str, Any]:
    nodes = [(function, node) for function, node in graph.all_nodes() if not _SAVING.search(function)]
    tensors = {
        f"{function}/{node.name}" if function else node.name: TensorInfo(node.dtype, _fixed(node.shape))
        for function, node in nodes
        if node.elements and node.dtype not in {"", "string"}
    }
    operators = Counter(node.op for _, node in nodes if node.op not in _HIDDEN)
    return {**describe_tensors(tensors, shown_path), "operators": most_frequent(operators)}


def _fixed(shape: tuple[int | None, ...] | None) -> tuple[int, ...]:
    return tuple(extent or 0 for extent in shape or ())
