"""ai-edge-quantizer: a .tflite file in float32 to one with integers or half precision, whatever wrote it."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from engines.tensors import Arrays

_EVERYTHING = ".*"


def half_file(content: bytes) -> bytes:
    """Return a file whose weights are stored in float16."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    recipe = _recipes()
    recipe.add_quantization_config(
        _EVERYTHING,
        qtyping.TFLOperationName.ALL_SUPPORTED,
        qtyping.OpQuantizationConfig(
            weight_tensor_config=qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT),
            compute_precision=qtyping.ComputePrecision.FLOAT,
            explicit_dequantize=True,
        ),
        AlgorithmName.FLOAT_CASTING,
    )
    return _quantized(content, recipe)


def static_file(content: bytes, feeds: Iterable[Arrays], keys: Mapping[str, str], *, per_channel: bool) -> bytes:
    """Return a file whose products take integers of 8 bits, their ranges found on some feeds.

    Inputs and outputs stay in floating point.

    Args:
        content: The file.
        feeds: Feeds of the package; they are gone through more than once.
        keys: The file's key of each input, by the input's name.
        per_channel: One scale for each output channel of a weight, or one for each weight.
    """
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    operations, recipe = qtyping.TFLOperationName, _recipes()
    recipe.add_static_config(_EVERYTHING, operations.ALL_SUPPORTED, 8, 8, _granularity(per_channel))
    for kept in (operations.INPUT, operations.OUTPUT):
        recipe.add_quantization_config(_EVERYTHING, kept, algorithm_key=AlgorithmName.NO_QUANTIZE)
    return _quantized(content, recipe, _Renamed(feeds, keys))


def dynamic_file(content: bytes, *, per_channel: bool) -> bytes:
    """Return a file with weights of 8 bits, whose products bring activations to 8 bits in each call."""
    from ai_edge_quantizer import qtyping

    recipe = _recipes()
    recipe.add_dynamic_config(_EVERYTHING, qtyping.TFLOperationName.ALL_SUPPORTED, 8, _granularity(per_channel))
    return _quantized(content, recipe)


def weights_file(content: bytes, bits: int) -> bytes:
    """Return a file with weights of 8 or 4 bits, which are widened for products in floating point."""
    from ai_edge_quantizer import qtyping

    recipe = _recipes()
    recipe.add_weight_only_config(_EVERYTHING, qtyping.TFLOperationName.ALL_SUPPORTED, bits)
    return _quantized(content, recipe)


@dataclass(frozen=True)
class _Renamed:
    """Feeds with the file's keys; the quantizer counts them before it takes them."""

    feeds: Iterable[Arrays]
    keys: Mapping[str, str]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return ({self.keys[name]: value for name, value in feed.items()} for feed in self.feeds)


def _recipes() -> Any:
    from ai_edge_quantizer.recipe_manager import RecipeManager

    return RecipeManager()


def _granularity(per_channel: bool) -> Any:
    from ai_edge_quantizer import qtyping

    return qtyping.QuantGranularity.CHANNELWISE if per_channel else qtyping.QuantGranularity.TENSORWISE


def _quantized(content: bytes, recipe: Any, samples: Iterable[dict[str, Any]] | None = None) -> bytes:
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer = Quantizer(content, recipe.get_quantization_recipe())
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),  # a bar of progress
    ):
        warnings.simplefilter("ignore")
        found = _ranges(content, recipe, samples) if samples is not None else None
        made = quantizer.quantize(found, enable_progress_bar=False, enable_progress_report=False)
    return bytes(made.quantized_model)


def _ranges(content: bytes, recipe: Any, samples: Iterable[dict[str, Any]]) -> Any:
    """Return the smallest and the largest value of each tensor over all samples.

    The quantizer's own default is a mean that moves on with each sample, which cuts off what few samples have.
    """
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer.calibrator import CalibrationMode, Calibrator
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    [signature] = Interpreter(model_content=content).get_signature_list()
    calibrator = Calibrator(
        content,
        num_threads=1,
        mode=CalibrationMode.CALIBRATION_PRESERVE_ALL_TENSORS,
        qsv_update_func=min_max_update,
    )
    calibrator.calibrate({signature: samples}, recipe)
    return calibrator.get_model_qsvs()
