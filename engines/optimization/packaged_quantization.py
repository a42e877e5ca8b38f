"""What a package's manifest says of how its components were quantized: by what won, as nobody asked for more."""

from __future__ import annotations

from collections.abc import Sequence

from engines.optimization.result import OptimizedComponent
from engines.package.manifest import QuantizationEntry, QuantizedComponent

EIGHT_BIT_WEIGHTS = "INT8 weights, integer products"
"""What the knob `weights` of OpenVINO does, as quantizations call it."""
DYNAMIC = "onnxruntime dynamic per channel"
"""What that of ONNX Runtime does."""
_KEPT = "kept as it is"
_ASYMMETRIC = "asymmetric"


def quantization_entry(done: Sequence[OptimizedComponent]) -> QuantizationEntry | None:
    """Return how components were quantized; None where none was.

    The method is left open, as it was left to the search: each component says what quantized it. Of a source that
    carried its quantization only that is known.
    """
    components = {
        entry.packaged.component.name: QuantizedComponent(
            quantizer=_quantizer(entry), floating_point_nodes=entry.floating_point_nodes
        )
        for entry in done
        if _quantizer(entry)
    }
    if not components:
        return None
    quantizers = [component.quantizer for component in components.values()]
    made = [quantizer for quantizer in quantizers if quantizer != _KEPT]
    return QuantizationEntry(
        scheme=_scheme(made),
        method="",
        granularity="PER_CHANNEL" if made else "",
        asymmetric=any(quantizer == EIGHT_BIT_WEIGHTS or _ASYMMETRIC in quantizer.split() for quantizer in made),
        components=components,
    )


def _scheme(quantizers: Sequence[str]) -> str:
    if not quantizers:
        return ""
    if set(quantizers) <= {EIGHT_BIT_WEIGHTS, DYNAMIC}:
        return "DYNAMIC" if DYNAMIC in quantizers else "WEIGHT_ONLY"
    return "STATIC"


def _quantizer(entry: OptimizedComponent) -> str:
    """Return what quantized the recommended form of a component; empty where nothing did."""
    if entry.quantizer:
        return entry.quantizer
    spec = entry.found.recommended.spec
    if not spec.knob("weights"):
        return ""
    return EIGHT_BIT_WEIGHTS if spec.runtime == "openvino" else DYNAMIC
