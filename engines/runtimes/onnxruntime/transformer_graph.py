"""Fuses the parts of transformers by ONNX Runtime's own tool: attention, and layer norms with the sum before them.

ONNX Runtime fuses some of them when it loads a graph, but finds the attention of most exported networks with this tool
only.
"""

from __future__ import annotations

import contextlib
import io
import logging
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure, FailureReason, first_line
from engines.graph.hygiene import load_model, save_model
from engines.runtimes.refusals import crashed

log = logging.getLogger(__name__)

_KINDS = ("bert", "gpt2", "vit")
"""Kinds of transformer that the tool knows; they differ in the patterns that it finds."""
_ATTENTION = frozenset({"Attention", "MultiHeadAttention", "GroupQueryAttention"})


def fused_graph(onnx_path: Path, target: Path) -> Path:
    """Write the graph with fused attention to `target`, as the kind of transformer in which most of it is found.

    Raises:
        EngineFailure: UNSUPPORTED_OPERATOR if no attention is found, TOOLCHAIN_CRASHED if the tool fails.
    """
    made: list[Any] = []
    errors: list[Exception] = []
    for kind in _KINDS:
        try:
            made.append(_fused(onnx_path, kind))
        except Exception as error:  # the tool may raise anything if a pattern differs from what it expects
            log.info("Fusing as %s failed: %s", kind, first_line(error))
            errors.append(error)
    if not made:
        raise crashed("onnxruntime.transformers", "read the graph", errors[0])
    best = min(made, key=lambda model: (-_attentions(model), len(model.graph.node)))
    if not _attentions(best):
        raise EngineFailure(
            FailureReason.UNSUPPORTED_OPERATOR,
            "onnxruntime.transformers finds no attention in the graph to fuse.",
            suggested_fix="Nothing needs to be done: the form without this fusion is measured as well.",
        )
    return save_model(best, target)[0]


def _fused(onnx_path: Path, kind: str) -> Any:
    from onnxruntime.transformers import optimizer

    model = load_model(onnx_path)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        # 0 heads: read from the graph; level 0: no session optimizes it, whose graph would be for this machine alone
        fused = optimizer.optimize_model(model, model_type=kind, num_heads=0, hidden_size=0, opt_level=0)
    return fused.model


def _attentions(model: Any) -> int:
    return sum(node.op_type in _ATTENTION for node in model.graph.node)
