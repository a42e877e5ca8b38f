"""ONNX Runtime's quantizers: static QDQ in two widths, and dynamic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engines.quantization.ort_static import place_qdq
from engines.quantization.quantizers import Material, Settings
from engines.runtimes.onnxruntime.dynamic_graph import quantize_products


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
            signed=settings.signed,
            halves=settings.halves,
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
        return quantize_products(
            material.graph,
            out_dir / "quantized.onnx",
            per_channel=settings.per_channel,
            seven_bits=settings.seven_bits,
            excluded=excluded,
        )
