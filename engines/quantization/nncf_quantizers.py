"""NNCF's post-training quantizer as candidates: on the ONNX graph, and on OpenVINO's IR of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.graph.hygiene import load_model, save_model
from engines.quantization.quantizers import Material, Settings

ESTIMATORS = {
    "ENTROPY_2": "HISTOGRAM",
    "ENTROPY": "MEAN_MINMAX",
    "LEGACY_PERCENTILE": "MEAN_QUANTILE",
    "MINMAX": "MINMAX",
}
"""NNCF's range estimator for each calibration method; `ranges` explains them."""


@dataclass(frozen=True)
class Nncf:
    """Fast bias correction, and for transformers SmoothQuant and NNCF's own choice of what to leave out.

    Attributes:
        on_ir: Whether it works on OpenVINO's IR, or on the ONNX graph.
    """

    on_ir: bool

    def name(self, settings: Settings) -> str:
        """Return what reports call it."""
        estimator = ESTIMATORS[settings.method].lower().replace("_", " ")
        return f"nncf on {'OpenVINO IR' if self.on_ir else 'ONNX'}, {settings.in_words(method=estimator)}"

    def quantize(self, material: Material, settings: Settings, excluded: frozenset[str], out_dir: Path) -> Path:
        """Write the graph with FakeQuantize (IR) or QDQ (ONNX)."""
        import openvino as ov

        if not self.on_ir:
            model = load_model(material.graph)
            quantized = _quantize(model, material, settings, sorted(excluded))
            save_model(quantized, out_dir / "quantized.onnx")
            return out_dir / "quantized.onnx"
        ir = ov.convert_model(str(material.graph))
        quantized = _quantize(ir, material, settings, ir_names(ir, excluded))
        ov.save_model(quantized, str(out_dir / "quantized.xml"), compress_to_fp16=False)
        return out_dir / "quantized.xml"


def ir_names(ir: Any, nodes: frozenset[str]) -> list[str]:
    """Return the operations of an IR that ONNX nodes became: the products and convolutions, without their biases."""
    names = {operation.get_friendly_name() for operation in ir.get_ordered_ops()}
    return sorted({*nodes, *(f"{node}/WithoutBiases" for node in nodes)} & names)


def _quantize(model: Any, material: Material, settings: Settings, excluded: list[str]) -> Any:
    import nncf
    from nncf.quantization.advanced_parameters import (
        AdvancedQuantizationParameters,
        OverflowFix,
        QuantizationParameters,
    )
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    feeds = material.calibration()
    advanced = AdvancedQuantizationParameters(
        overflow_fix=OverflowFix.ENABLE if settings.seven_bits else OverflowFix.DISABLE,
        weights_quantization_params=QuantizationParameters(per_channel=settings.per_channel),
        activations_range_estimator_params=getattr(RangeEstimatorParametersSet, ESTIMATORS[settings.method]),
    )
    preset = nncf.QuantizationPreset.MIXED if settings.asymmetric else nncf.QuantizationPreset.PERFORMANCE
    return nncf.quantize(
        model,
        nncf.Dataset(feeds),
        preset=preset,
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(feeds),
        fast_bias_correction=True,
        model_type=nncf.ModelType.TRANSFORMER if settings.transformer else None,
        ignored_scope=nncf.IgnoredScope(names=excluded) if excluded else None,
        advanced_parameters=advanced,
    )
