"""Candidates that need no calibration: compressed weights, and half precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engines.graph.hygiene import load_model, save_model
from engines.graph.precision import to_half
from engines.quantization.quantizers import Material, Settings
from engines.quantization.weights import compress_weights


@dataclass(frozen=True)
class CompressedWeights:
    """Weights as integers of 8 or 4 bits.

    Attributes:
        float_activations: Whether products are computed in floating point, or on activations brought to int8.
    """

    float_activations: bool

    def name(self, settings: Settings) -> str:
        """Return what reports call it."""
        products = "floating-point products" if self.float_activations else "integer products"
        return f"{settings.precision} weights, {products}"

    def quantize(self, material: Material, settings: Settings, excluded: frozenset[str], out_dir: Path) -> Path:
        """Write the graph with compressed weights."""
        return compress_weights(
            load_model(material.graph),
            4 if settings.precision == "INT4" else 8,
            settings.runtime,
            settings.per_channel,
            excluded,
            out_dir=out_dir,
            symmetric=not settings.asymmetric,
            float_activations=self.float_activations,
        ).path


@dataclass(frozen=True)
class Half:
    """The graph in FP16 or BF16."""

    def name(self, settings: Settings) -> str:
        """Return what reports call it."""
        return settings.precision

    def quantize(self, material: Material, settings: Settings, excluded: frozenset[str], out_dir: Path) -> Path:
        """Write the graph in half precision."""
        target = out_dir / "half.onnx"
        save_model(to_half(load_model(material.graph), settings.precision, excluded), target)
        return target


@dataclass(frozen=True)
class AsItIs:
    """A graph that carries quantization already."""

    def name(self, settings: Settings) -> str:
        """Return what reports call it."""
        return "kept as it is"

    def quantize(self, material: Material, settings: Settings, excluded: frozenset[str], out_dir: Path) -> Path:
        """Write the graph again."""
        target = out_dir / "quantized.onnx"
        save_model(load_model(material.graph), target)
        return target
