"""LiteRT's quantizers as candidates: TFLiteConverter for functions of TensorFlow, ai-edge-quantizer for any file.

Both find a range by the smallest and the largest value, and keep what they cannot quantize in floating point.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from engines.failures import EngineFailure, FailureReason
from engines.quantization.quantizers import Material, Quantizer, Settings
from engines.runtimes.litert import quantizing
from engines.runtimes.litert.opener import INPUTS
from engines.runtimes.litert.runtime import TFLITE, floating_file, interface
from engines.runtimes.litert.tensorflow_converter import converted, dynamic_range, full_integer
from engines.runtimes.source import BuildSource

CONVERTER, QUANTIZER = "TFLiteConverter", "ai-edge-quantizer"


@dataclass(frozen=True)
class Tflite:
    """A way to write a .tflite file with integers.

    Attributes:
        tool: `CONVERTER` or `QUANTIZER`.
        scheme: STATIC, DYNAMIC, WEIGHT_ONLY, or HALF.
    """

    tool: str
    scheme: str

    def name(self, settings: Settings) -> str:
        """Return what reports call it."""
        granularity = "per channel" if settings.per_channel else "per tensor"
        words = {
            "STATIC": f"min max asymmetric {granularity}",
            "DYNAMIC": f"ranges found in each call, {granularity}",
            "WEIGHT_ONLY": f"{settings.precision} weights, floating-point products",
        }
        return f"{self.tool}, {words.get(self.scheme, f'{settings.precision} weights')}"

    def quantize(self, material: Material, settings: Settings, excluded: frozenset[str], out_dir: Path) -> Path:
        """Write the file.

        Raises:
            EngineFailure: INVALID_SPEC for nodes to keep, as the tools do not know them; what the tools fail with.
        """
        if excluded:
            raise EngineFailure(
                FailureReason.INVALID_SPEC,
                f"{self.tool} quantizes operators of LiteRT and does not know nodes of the ONNX graph, such as "
                f"'{min(excluded)}'.",
                suggested_fix="Leave excluded_nodes empty, or choose the runtime onnxruntime.",
            )
        assert material.source is not None  # the jobs that quantize for LiteRT give it
        target = out_dir / f"quantized.{TFLITE}"
        target.write_bytes(self._file(material, material.source, settings))
        return target

    def _file(self, material: Material, source: BuildSource, settings: Settings) -> bytes:
        if self.tool == CONVERTER:
            if self.scheme == "DYNAMIC":
                return converted(source, dynamic_range)
            return converted(source, full_integer(material.calibration(), per_channel=settings.per_channel))
        floating = _floating(material, source)
        if self.scheme == "STATIC":
            keys: dict[str, str] = json.loads(interface(floating, source)[INPUTS])
            return quantizing.static_file(floating, material.calibration(), keys, per_channel=settings.per_channel)
        if self.scheme == "DYNAMIC":
            return quantizing.dynamic_file(floating, per_channel=settings.per_channel)
        if self.scheme == "HALF":
            return quantizing.half_file(floating)
        return quantizing.weights_file(floating, 8)


def tflite_quantizers(scheme: str, settings: Settings) -> list[Quantizer]:
    """Return the ways to quantize for LiteRT by a scheme, the simplest first."""
    if scheme not in ("STATIC", "DYNAMIC"):
        return [Tflite(QUANTIZER, scheme)]
    return [Tflite(tool, scheme) for tool in ((CONVERTER, QUANTIZER) if settings.function else (QUANTIZER,))]


def _floating(material: Material, source: BuildSource) -> bytes:
    """Return the file in float32, which is made once for all quantizers."""
    path = material.scratch / f"floating.{TFLITE}"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(floating_file(source))
    return path.read_bytes()
