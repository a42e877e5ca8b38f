"""The tensors and operators of a TensorFlow graph, read without TensorFlow, for the descriptions of its formats."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from engines.formats.described_tensors import TensorInfo, describe_tensors, most_frequent
from engines.formats.tensorflow.graph import Graph

_HIDDEN = frozenset({"Const", "Placeholder", "NoOp", "Identity", "VarHandleOp", "ReadVariableOp"})
"""Operators of the plumbing, which say nothing of a network."""
_SAVING = re.compile(r"_traced_(save|restore)_")
"""Functions that every SavedModel has for its variables."""


def describe_graph(graph: Graph, shown_path: str) -> dict[str, Any]:
    """Return the part of a `GraphDescription` that a graph says: its weights and operators."""
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
