"""Whether a graph says the precision that it is built in: a builder picks none of its own."""

from __future__ import annotations

from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.graph.hygiene import load_model, save_model
from engines.graph.precision import half_elements, to_half
from engines.graph.quantized import quantized_nodes

QUANTIZED = frozenset({"INT8", "INT4"})
"""Precisions that a graph has from a quantizer, or from its training."""


def stated_graph(onnx_path: Path, precision: str, out_dir: Path) -> Path:
    """Return a graph that says the precision: the one given, or one written to `out_dir/model.onnx`.

    FP16 is written into a graph that has no FP16 constants yet. FP32 and BF16 stand in no graph: the runtime is told.

    Raises:
        EngineFailure: UNSUPPORTED_PRECISION where a graph in floating point is to be built in INT8 or INT4, or where no
            node can compute in FP16.
    """
    if precision in QUANTIZED:
        if not quantized_nodes(load_model(onnx_path, weights=False)):
            raise not_quantized(precision)
    elif precision == "FP16":
        model = load_model(onnx_path)
        if "FP16" not in half_elements(model):
            return save_model(to_half(model, "FP16"), out_dir / "model.onnx")[0]
    return onnx_path


def not_quantized(precision: str) -> EngineFailure:
    """Return the failure of a graph in floating point that was to be built in integers."""
    return EngineFailure(
        FailureReason.UNSUPPORTED_PRECISION,
        f"The graph is in floating point and cannot be built in {precision}: a conversion does not quantize.",
        suggested_fix=f"Convert it in FP32 and create a quantization task with the precision {precision}.",
    )
