"""Folds constants, drops dead code and fuses operators in the graph itself, by onnxscript's optimizer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from engines.failures import EngineFailure, FailureReason

if TYPE_CHECKING:
    import onnx

log = logging.getLogger(__name__)


def fuse_operators(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with constants folded, unused nodes gone, and neighbours fused where that is exact.

    Batch normalization goes into the Conv, ConvTranspose or Gemm before it. Inputs and outputs keep names and order.

    Raises:
        EngineFailure: TOOLCHAIN_CRASHED where the optimizer fails, or changes the interface.
    """
    from onnxscript import optimizer, rewriter

    try:
        fused: onnx.ModelProto = optimizer.optimize(rewriter.rewrite(optimizer.optimize(model)))
    except Exception as error:
        log.exception("onnxscript cannot optimize the graph")
        raise _crashed("onnxscript failed to optimize the graph") from error
    for part in ("input", "output"):
        before, after = ([value.name for value in getattr(graph, part)] for graph in (model.graph, fused.graph))
        if before != after:
            raise _crashed(f"onnxscript changed the graph's {part}s from {before} to {after}")
    return fused


def _crashed(message: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.TOOLCHAIN_CRASHED, f"{message}.", suggested_fix="Convert without the fusing of operators."
    )
