"""The entry of an optimized package's manifest that states how its components were quantized."""

from __future__ import annotations

from collections.abc import Sequence

from engines.optimization.result import OptimizedComponent
from engines.package.manifest import QuantizationEntry, QuantizedComponent
from engines.runtimes import runtimes

_KEPT = "kept as it is"
_ASYMMETRIC = "asymmetric"
_DYNAMIC = "dynamic"
_WEIGHTS = "INT8 weights"


def quantization_entry(done: Sequence[OptimizedComponent]) -> QuantizationEntry | None:
    """Return how components were quantized; None if none was.

    The method is empty, because the search chose it: each component names its quantizer. For a source that was already
    quantized, only that is known.
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
        granularity="" if not made else "PER_TENSOR" if all("per tensor" in name for name in made) else "PER_CHANNEL",
        asymmetric=any(_WEIGHTS in name or _ASYMMETRIC in name.split() for name in made),
        components=components,
    )


def _scheme(quantizers: Sequence[str]) -> str:
    if not quantizers:
        return ""
    if not all(_WEIGHTS in name or _DYNAMIC in name.split() for name in quantizers):
        return "STATIC"
    return "DYNAMIC" if any(_DYNAMIC in name.split() for name in quantizers) else "WEIGHT_ONLY"


def _quantizer(entry: OptimizedComponent) -> str:
    """Return what quantized the recommended form of a component; empty if nothing did."""
    if entry.quantizer:
        return entry.quantizer
    spec = entry.found.recommended.spec
    named = (knob.quantizers.get(spec.knob(knob.name), "") for knob in runtimes()[spec.runtime].knobs)
    return next(filter(None, named), "")
