"""The quantizers that are tried for a scheme and a runtime, in order, and those for when none of them holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from engines.failures import invalid
from engines.quantization.amct_quantizer import amct_quantizers
from engines.quantization.direct_quantizers import AsItIs, CompressedWeights, Half
from engines.quantization.litert_quantizers import tflite_quantizers
from engines.quantization.nncf_quantizers import Nncf
from engines.quantization.onnxruntime_quantizers import Dynamic, StaticQdq
from engines.quantization.quantizers import Quantizer, Settings
from engines.quantization.request import QuantizationSpec
from engines.runtimes import runtimes
from engines.runtimes.form import FormSpec
from engines.runtimes.litert.runtime import TFLITE
from engines.runtimes.opened import products_saturate
from engines.runtimes.openvino.runtime import IR
from engines.runtimes.protocol import Integers
from engines.runtimes.source import GRAPH

_ATTENTION = frozenset({"LayerNormalization", "SkipLayerNormalization", "Attention", "MultiHeadAttention"})


@dataclass(frozen=True)
class Recipe:
    """A quantizer with its settings."""

    quantizer: Quantizer
    settings: Settings

    @property
    def name(self) -> str:
        """The quantizer and its settings in words."""
        return self.quantizer.name(self.settings)

    @property
    def spec(self) -> FormSpec:
        """The form that it makes."""
        return FormSpec(self.settings.runtime, self.settings.precision, self.name)


def settings_of(spec: QuantizationSpec, model: Any, runtime: str, *, function: bool = False) -> Settings:
    """Return the settings that a specification asks for, on this machine's processor.

    Raises:
        EngineFailure: INVALID_SPEC for asymmetric ranges if the runtime takes signed bytes about zero alone.
    """
    if spec.asymmetric and _integers(runtime).signed:
        message = f"{runtimes()[runtime].title} takes activations in ranges about zero alone, not asymmetric ones."
        raise invalid(message, "Ask for symmetric ranges, or leave them open.")
    return Settings(
        precision=spec.arithmetic,
        method=spec.method,
        asymmetric=spec.asymmetric,
        per_channel=spec.per_channel,
        seven_bits=_seven_bits(runtime) and spec.kind == "STATIC",
        transformer=is_transformer(model),
        runtime=runtime,
        function=function,
        signed=_integers(runtime).signed,
    )


def open_settings(model: Any, runtime: str, *, function: bool = False) -> Settings:
    """Return the settings of INT8 if nobody asked for any."""
    seven_bits, transformer = _seven_bits(runtime), is_transformer(model)
    signed = _integers(runtime).signed
    return Settings("INT8", "ENTROPY_2", False, True, seven_bits, transformer, runtime, function, signed)


def _seven_bits(runtime: str) -> bool:
    return _integers(runtime).saturate and products_saturate()


def _integers(runtime: str) -> Integers:
    return runtimes()[runtime].integers or Integers()


def _writes_tflite(settings: Settings) -> bool:
    return _integers(settings.runtime).form == TFLITE


def _nncf(settings: Settings) -> Nncf:
    return Nncf(on_ir=_integers(settings.runtime).form != GRAPH)


def first_recipes(spec: QuantizationSpec, settings: Settings) -> list[Recipe]:
    """Return the requested recipes, the simplest first."""
    if _writes_tflite(settings):
        return [Recipe(quantizer, settings) for quantizer in tflite_quantizers(spec.kind, settings)]
    weights = [CompressedWeights(float_activations=each) for each in (False, True)]
    if _integers(settings.runtime).block:  # what the graph dequantizes is multiplied in floating point
        del weights[0]
    quantizers: dict[str, list[Quantizer]] = {
        "HALF": [Half()],
        "WEIGHT_ONLY": [*weights],
        "DYNAMIC": [Dynamic() if _integers(settings.runtime).form == GRAPH else weights[0]],
    }
    if spec.kind == "STATIC":
        return static_recipes(settings, method_is_open=spec.method_is_open)
    return [Recipe(quantizer, settings) for quantizer in quantizers[spec.kind]]


def second_recipes(spec: QuantizationSpec, settings: Settings) -> list[Recipe]:
    """Return the recipes that are tried if none of the first ones holds and is faster than the source."""
    own = spec.kind == "STATIC" and not _writes_tflite(settings)
    return wider_recipes(settings, method_is_open=spec.method_is_open) if own else []


def static_recipes(settings: Settings, *, method_is_open: bool = True) -> list[Recipe]:
    """Return the ways to quantize statically: the vendor's own, which has methods of its own, then the simplest."""
    if _writes_tflite(settings):
        return [Recipe(quantizer, settings) for quantizer in tflite_quantizers("STATIC", settings)]
    own = amct_quantizers(settings) if method_is_open else []
    quantizers: list[Quantizer] = [*own, StaticQdq(everything=False), StaticQdq(everything=True)]
    if not settings.halves:  # NNCF writes scales in FP32 alone
        quantizers.append(_nncf(settings))
    return [Recipe(each, settings) for each in quantizers]


def promising_recipes(settings: Settings) -> list[Recipe]:
    """Return the ways to quantize statically, first the one that wins most often: NNCF if the runtime takes an IR."""
    found = static_recipes(settings)
    return found[::-1] if _integers(settings.runtime).form == IR else found


def wider_recipes(settings: Settings, *, method_is_open: bool = True) -> list[Recipe]:
    """Return static recipes with wider ranges, if the request left the ranges open.

    Asymmetric ranges lose less of what is not symmetric. If nobody chose a calibration method, the smallest and the
    largest value keep the outliers that transformers need.
    """
    wider = replace(settings, asymmetric=True, method="MINMAX" if method_is_open else settings.method)
    if wider == settings:
        return []
    closed = _writes_tflite(settings) or settings.signed
    return [] if closed else [Recipe(StaticQdq(everything=False), wider), Recipe(_nncf(wider), wider)]


def kept_recipe(settings: Settings) -> Recipe:
    """Return the recipe of a graph that carries quantization already."""
    return Recipe(AsItIs(), settings)


def is_transformer(model: Any) -> bool:
    """Return whether a graph has layer normalization or attention: an operator of theirs, or a product of a softmax."""
    softmaxed = {output for node in model.graph.node if node.op_type == "Softmax" for output in node.output}
    return any(
        node.op_type in _ATTENTION or (node.op_type == "MatMul" and not softmaxed.isdisjoint(node.input))
        for node in model.graph.node
    )
