"""Which quantizers are tried for a scheme and a runtime, in which order, and what is tried where none of them holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from engines.quantization.direct_quantizers import CompressedWeights, Half
from engines.quantization.nncf_quantizers import Nncf
from engines.quantization.onnxruntime_quantizers import Dynamic, StaticQdq
from engines.quantization.quantizers import Quantizer, Settings
from engines.quantization.request import QuantizationSpec
from engines.runtimes.opened import products_saturate

_ATTENTION = frozenset({"LayerNormalization", "SkipLayerNormalization", "Attention", "MultiHeadAttention"})


@dataclass(frozen=True)
class Candidate:
    """A quantizer with its settings."""

    quantizer: Quantizer
    settings: Settings

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.quantizer.name(self.settings)


def settings_of(spec: QuantizationSpec, model: Any, runtime: str) -> Settings:
    """Return the settings that a specification asks for, on this machine's processor."""
    return Settings(
        precision=spec.arithmetic,
        method=spec.method,
        asymmetric=spec.asymmetric,
        per_channel=spec.per_channel,
        seven_bits=runtime == "openvino" and spec.kind == "STATIC" and products_saturate(),
        transformer=is_transformer(model),
        runtime=runtime,
    )


def first_candidates(spec: QuantizationSpec, settings: Settings) -> list[Candidate]:
    """Return what is asked for, the simplest first."""
    quantizers: dict[str, list[Quantizer]] = {
        "HALF": [Half()],
        "WEIGHT_ONLY": [CompressedWeights(float_activations=False), CompressedWeights(float_activations=True)],
        "DYNAMIC": [Dynamic() if settings.runtime == "onnxruntime" else CompressedWeights(float_activations=False)],
        "STATIC": [
            StaticQdq(everything=False),
            StaticQdq(everything=True),
            Nncf(on_ir=settings.runtime == "openvino"),
        ],
    }
    return [Candidate(quantizer, settings) for quantizer in quantizers[spec.kind]]


def second_candidates(spec: QuantizationSpec, settings: Settings) -> list[Candidate]:
    """Return what is tried where nothing of the first holds: other ranges, as far as nobody chose them.

    Ranges that are not symmetric lose less of what is not symmetric. Where nobody chose a calibration method, the
    smallest and largest value keep the outliers that transformers need.
    """
    if spec.kind != "STATIC":
        return []
    wider = replace(settings, asymmetric=True, method="MINMAX" if spec.method_is_open else settings.method)
    if wider == settings:
        return []
    return [Candidate(StaticQdq(everything=False), wider), Candidate(Nncf(on_ir=settings.runtime == "openvino"), wider)]


def is_transformer(model: Any) -> bool:
    """Return whether a graph has layer normalization or attention: an operator of theirs, or a product of a softmax."""
    softmaxed = {output for node in model.graph.node if node.op_type == "Softmax" for output in node.output}
    return any(
        node.op_type in _ATTENTION or (node.op_type == "MatMul" and not softmaxed.isdisjoint(node.input))
        for node in model.graph.node
    )
