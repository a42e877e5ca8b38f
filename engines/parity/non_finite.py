"""Why a source returns only NaN or infinity: its weights, or the first node that produces such values."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.failures import EngineFailure, FailureReason
from engines.formats.source import Source
from engines.graph.hygiene import load_model, save_model
from engines.graph.instrumentation import Value, expose_intermediates, list_values
from engines.graph.walk import all_tensors
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.tensors import Array
from engines.tensors.samples import Samples

if TYPE_CHECKING:
    import onnx

VALUES_AT_A_TIME = 48
_RETRAIN = "Use a checkpoint from before the loss became NaN, or export the model again; other samples will not help."


def has_numbers(value: Array) -> bool:
    """Return whether an output can be compared: it has a finite element, or no elements at all."""
    return not value.size or value.dtype.kind != "f" or bool(np.isfinite(value).any())


def without_numbers(source: Source, samples: Samples, output: str) -> EngineFailure:
    """Return the failure of a source with an output that never `has_numbers`: PARITY_FAILED, with the cause.

    Args:
        source: The original.
        samples: Its samples.
        output: Name of the output.
    """
    arguments = source.arguments(samples.feeds[0])
    feed = {spec.name: array for spec, array in zip(source.signature.inputs, arguments, strict=True)}
    model = load_model(source.graph.path)
    nan: Value | None = None
    cause, fix = broken_weights(model), _RETRAIN
    if not cause:
        nan, infinite = _first_values(source, model, feed)
        cause = " and ".join(
            f"{what} first comes out of {_named(value)}"
            for what, value in (("infinity", infinite), ("NaN", nan))
            if value is not None
        )
        fix = (
            "No weight is NaN. Look at that node: a logarithm or root of a negative number, a division by zero, an "
            "overflow. If only such samples cause it, give those that the model is made for (--samples)."
        )
    return EngineFailure(
        FailureReason.PARITY_FAILED,
        f"The source itself returns only NaN or infinity in output '{output}', on all {samples.count} samples "
        f"({samples.source}), so no form can be compared with it{': ' if cause else ''}{cause}.",
        node=nan.node if nan else "",
        operator=nan.operator if nan else "",
        suggested_fix=fix,
    )


def broken_weights(model: onnx.ModelProto) -> str:
    """Return the weights with NaN, in words; empty if none has any. Infinity is no fault by itself: masks have it."""
    import onnx
    from onnx import numpy_helper

    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}
    found = []
    for tensor in all_tensors(model):
        if tensor.data_type in floats:
            bad = int(np.isnan(numpy_helper.to_array(tensor).astype(np.float32)).sum())
            if bad:
                found.append(f"'{tensor.name}' in {bad} of {int(np.prod(tensor.dims))} elements")
    more = f", and {len(found) - 3} more" if len(found) > 3 else ""
    return f"its weights hold NaN: {', '.join(found[:3])}{more}" if found else ""


def _first_values(
    source: Source, model: onnx.ModelProto, feed: Mapping[str, Array]
) -> tuple[Value | None, Value | None]:
    """Return the first value with NaN, and the first before it with infinity, in topological order."""
    infinite = None
    try:
        for value, array in _computed(source.graph.path.parent, model, feed):
            if array.dtype.kind != "f":
                continue
            if np.isnan(array).any():
                return value, infinite
            if infinite is None and np.isinf(array).any():
                infinite = value
    except EngineFailure:  # the reference cannot run it, only the source can
        return None, None
    return None, infinite


def _computed(folder: Path, model: onnx.ModelProto, feed: Mapping[str, Array]) -> Iterator[tuple[Value, Array]]:
    values = list_values(model)
    for start in range(0, len(values), VALUES_AT_A_TIME):
        chunk = values[start : start + VALUES_AT_A_TIME]
        with tempfile.TemporaryDirectory(dir=folder) as directory:
            path = Path(directory) / "exposed.onnx"
            save_model(expose_intermediates(model, [value.name for value in chunk]), path)
            found = OnnxRuntimeSession(path, 1, optimise=False).run(feed)
        for value in chunk:
            yield value, found[value.name]


def _named(value: Value) -> str:
    module = f", module '{value.module}' of the network" if value.module else ""
    return f"node '{value.node}' ({value.operator}{module})"
