"""TFLiteConverter: a function of TensorFlow, with the package's preprocessing before it, to a .tflite file."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from engines.failures import EngineFailure, FailureReason, first_line
from engines.runtimes.litert.tensorflow_preprocessing import preprocessed
from engines.runtimes.refusals import crashed
from engines.runtimes.source import BuildSource, Function
from engines.sandbox.tasklog import without_stderr
from engines.tensors import Arrays
from engines.tensors.preprocessing import Preprocessing

log = logging.getLogger(__name__)

CONVERTER = "TFLiteConverter"
_LEFT = re.compile(r"^(?:TF Select|Custom) ops: (?P<names>.+)$", re.MULTILINE)

Settings = Callable[[Any, Any], None]
"""Takes the package `tensorflow` and a converter, whose attributes it sets."""


def converted(source: BuildSource, settings: Settings = lambda tf, converter: None) -> bytes:
    """Return the .tflite file of a source's function, with the builtin operators of LiteRT alone.

    Its only signature has an input for each of the package's, in order (`file_inputs`), and the package's outputs under
    their names. Axes that vary are open.

    Args:
        source: The source; it has a function.
        settings: What differs from a conversion in float32.

    Raises:
        EngineFailure: UNSUPPORTED_OPERATOR naming the operators that LiteRT lacks, TOOLCHAIN_CRASHED for anything else.
    """
    import tensorflow as tf

    function = source.function
    assert function is not None  # the room takes what the source offers
    keys = file_inputs([spec.name for spec in source.signature.inputs])
    specs = [
        tf.TensorSpec(_shape(spec), tf.dtypes.as_dtype(spec.dtype), name=key)
        for spec, key in zip(source.signature.inputs, keys, strict=True)
    ]
    try:
        with without_stderr():
            traced = tf.function(_packaged(tf, source, function), autograph=False).get_concrete_function(*specs)
            module = tf.Module()
            module.network = function.owner  # holds the variables, which the converter makes constants
            converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], module)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            settings(tf, converter)
            made: bytes = converter.convert()
    except Exception as error:
        log.info("%s raised", CONVERTER, exc_info=error)
        raise _explained(error) from error
    return made


def file_inputs(names: Sequence[str]) -> list[str]:
    """Return the keys that a file has for inputs of some names: TensorFlow allows letters, digits and underscores."""
    plain = [re.sub(r"\W", "_", name, flags=re.ASCII) for name in names]
    return [
        key if key[:1].isalpha() and plain.count(key) == 1 else f"input_{number}_{key}"
        for number, key in enumerate(plain)
    ]


def half_weights(tf: Any, converter: Any) -> None:
    """Store weights in float16."""
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def dynamic_range(tf: Any, converter: Any) -> None:
    """Store weights in int8; products bring activations to int8 in each call."""
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def full_integer(feeds: Iterable[Arrays], *, per_channel: bool) -> Settings:
    """Return the settings of products in int8 whose ranges are found on some feeds; inputs and outputs are kept.

    Args:
        feeds: Feeds of the package; they are gone through once.
        per_channel: One scale for each output channel of a weight, or one for each weight.
    """

    def settings(tf: Any, converter: Any) -> None:
        def samples() -> Iterable[dict[str, Any]]:
            for feed in feeds:
                yield dict(zip(file_inputs(list(feed)), feed.values(), strict=True))

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = samples
        converter._experimental_disable_per_channel = not per_channel

    return settings


def _shape(spec: Any) -> list[int | None] | None:
    if not spec.known:
        return None
    return [low if low == high else None for low, high in zip(spec.min, spec.max, strict=True)]


def _packaged(tf: Any, source: BuildSource, function: Function) -> Callable[..., dict[str, Any]]:
    """Return the function of the package: it takes the package's inputs in order, and returns its outputs by name."""
    inputs = source.signature.inputs
    none = Preprocessing()
    steps = [function.preprocessing.get(spec.name, none) for spec in inputs]

    def call(*tensors: Any) -> dict[str, Any]:
        ready = [
            preprocessed(tf, tensor, each, dtype, spec.opt)
            for tensor, each, dtype, spec in zip(tensors, steps, function.dtypes, inputs, strict=True)
        ]
        # identities, as LiteRT has no output that is an input or another output
        return {
            spec.name: tf.identity(value)
            for spec, value in zip(source.signature.outputs, function.call(ready), strict=True)
        }

    return call


def _explained(error: Exception) -> EngineFailure:
    raw = str(error)
    operators = [name.strip() for found in _LEFT.finditer(raw) for name in found["names"].split(",")]
    if not operators:
        return crashed(CONVERTER, "convert the network", error)
    operators = list(dict.fromkeys(operators))
    node = _place(error, operators[0])
    at = f" (node '{node}')" if node else ""
    others = f", nor {', '.join(operators[1:])}" if len(operators) > 1 else ""
    return EngineFailure(
        FailureReason.UNSUPPORTED_OPERATOR,
        f"LiteRT has no operator {operators[0]}{at}{others}.",
        node=node,
        operator=operators[0],
        evidence=first_line(error)[:1000],
        suggested_fix="Write this part of the network with operators that LiteRT has, or leave it out of the network. "
        "Lathe builds no file that needs TensorFlow's own kernels (SELECT_TF_OPS) where it runs. ONNX Runtime may "
        "have the operator.",
    )


def _place(error: Exception, operator: str) -> str:
    """Return the name of the node with an operator that the converter's structured errors give; empty if none does."""
    for entry in getattr(error, "errors", ()):
        if entry.operator.name.rpartition(".")[2] == operator:
            return next((call.name.partition("@")[0] for call in entry.location.call if "@" in call.name), "")
    return ""
