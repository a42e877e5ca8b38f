"""ONNX Runtime's quantizers as candidates: static QDQ in two widths, and dynamic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.graph.hygiene import load_model
from engines.quantization.ort_static import place_qdq, products_of_activations
from engines.quantization.quantizers import Material, Settings

DYNAMIC_OPERATORS = ("MatMul", "Gemm")
"""Operators quantized dynamically: convolutions of that kind are slower than in floating point."""


@dataclass(frozen=True)
class StaticQdq:
    """QuantizeLinear and DequantizeLinear around operators, with ranges from calibration.

    Attributes:
        everything: Whether every operator that can be is quantized, or those with weights alone.
    """

    everything: bool

    def name(self, settings: Settings) -> str:
        """Return what reports call it."""
        which = "every operator" if self.everything else "operators with weights"
        return f"onnxruntime {settings.in_words()}, {which}"

    def quantize(self, material: Material, settings: Settings, excluded: frozenset[str], out_dir: Path) -> Path:
        """Write the graph with QDQ."""
        return place_qdq(
            material.graph,
            out_dir / "quantized.onnx",
            material.ranges(settings.method),
            everything=self.everything,
            per_channel=settings.per_channel,
            asymmetric=settings.asymmetric,
            reduce_range=settings.seven_bits,
            excluded=excluded,
        )


@dataclass(frozen=True)
class Dynamic:
    """Weights as integers, and ranges of activations found at run time."""

    def name(self, settings: Settings) -> str:
        """Return what reports call it."""
        bits = ", 7-bit weights" if settings.seven_bits else ""
        return f"onnxruntime dynamic {'per channel' if settings.per_channel else 'per tensor'}{bits}"

    def quantize(self, material: Material, settings: Settings, excluded: frozenset[str], out_dir: Path) -> Path:
        """Write the graph with products of integers."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        model = load_model(material.graph)
        left_out = excluded | products_of_activations(model)
        quantized = [node for node in model.graph.node if node.op_type in DYNAMIC_OPERATORS]
        if left_out.issuperset(node.name for node in quantized):
            raise EngineFailure(
                FailureReason.INVALID_SPEC,
                f"The graph has no {' or '.join(DYNAMIC_OPERATORS)} with a weight, which dynamic quantization is for.",
                suggested_fix="Choose the scheme STATIC, with calibration data.",
            )
        target = out_dir / "quantized.onnx"
        del model.graph.value_info[:]  # the quantizer turns weights round, and then trips over their old shapes
        quantize_dynamic(
            model,
            target,
            op_types_to_quantize=list(DYNAMIC_OPERATORS),
            per_channel=settings.per_channel,
            reduce_range=settings.seven_bits,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=sorted(left_out),
        )
        return target
