"""Triton's configuration of one component, as the JSON form of its `inference.ModelConfig`.

Read against the backends' own sources, because a configuration that does not fit keeps a model from loading:

- ONNX Runtime takes `max_batch_size` over 0 only where axis 0 of every input and output is dynamic, and sets one of
  its own where all are and none is given; so it is given exactly then. `optimization.graph.level` is the graph
  optimization (absent is all, 1 extended, -1 basic, 2 none); `execution_mode` is a parameter.
- OpenVINO fixes the batch at `max_batch_size` when it loads a batching model, and refuses every other one unless
  `ENABLE_BATCH_PADDING` is on: it is, and the price is that a call always computes a full batch. Its parameters are
  `PERFORMANCE_HINT`, `NUM_STREAMS`, `INFERENCE_NUM_THREADS` and `HINT_BF16`; none of them asks for float32, so that
  it computes a float32 package in bfloat16 on a processor that has such arithmetic.
- Neither has optimization profiles: the bounds of dynamic axes stand in parameters, and a warm-up runs at `opt`. It
  feeds zeros, because random numbers are no valid indices.

Sources: README.md and src/ of triton-inference-server/onnxruntime_backend and /openvino_backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import ComponentEntry, Manifest, Tensor

TYPES = {
    "bool": "TYPE_BOOL",
    "uint8": "TYPE_UINT8",
    "uint16": "TYPE_UINT16",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8",
    "int16": "TYPE_INT16",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "float16": "TYPE_FP16",
    "float32": "TYPE_FP32",
    "float64": "TYPE_FP64",
    "bfloat16": "TYPE_BF16",
    "string": "TYPE_STRING",
}
"""Triton's name of each element type."""

_ORT_LEVELS = {"ORT_DISABLE_ALL": 2, "ORT_ENABLE_BASIC": -1, "ORT_ENABLE_EXTENDED": 1}
_ORT_MODES = {"ORT_SEQUENTIAL": "0", "ORT_PARALLEL": "1"}
_OPENVINO_OPTIONS = ("PERFORMANCE_HINT", "NUM_STREAMS", "INFERENCE_NUM_THREADS")
_NO_FLOAT32 = (
    "Triton's OpenVINO backend has no parameter that asks for float32: on a processor with bfloat16 arithmetic it "
    "computes in bfloat16, which is not what parity was measured with."
)


@dataclass(frozen=True)
class TritonBackend:
    """A backend: the file that it opens, and the element types that it does not take."""

    file_name: str
    unsupported: frozenset[str]


BACKENDS = {
    "onnxruntime": TritonBackend("model.onnx", frozenset()),
    "openvino": TritonBackend("model.xml", frozenset({"float64", "bfloat16", "string"})),
}
"""Backends by the name of the runtime, which is their own."""


@dataclass(frozen=True)
class Label:
    """The classes of an output, one per line, and the file that holds them in the model's folder."""

    file_name: str
    output: str
    text: str


def model_config(
    manifest: Manifest, component: ComponentEntry, *, name: str, number: int, labels: Sequence[Label], package: str
) -> dict[str, Any]:
    """Return the configuration under which Triton serves version `number` of a component, and no other.

    Raises:
        EngineFailure: UNSUPPORTED_PRECISION for an element type that the backend does not take; INVALID_MODEL for a
            shape that it cannot serve.
    """
    runtime = manifest.form_of(component).runtime.name
    batch = largest_batch(component)
    label_of = {label.output: label.file_name for label in labels}
    inputs = [_tensor(component, tensor, runtime, batch) for tensor in component.signature.inputs]
    outputs = [_tensor(component, tensor, runtime, batch) for tensor in component.signature.outputs]
    for output in outputs:
        if output["name"] in label_of:
            output["label_filename"] = label_of[output["name"]]
    config: dict[str, Any] = {
        "name": name,
        "backend": runtime,
        "version_policy": {"specific": {"versions": [number]}},
        "max_batch_size": batch,
        "input": inputs,
        "output": outputs,
        "instance_group": [{"kind": "KIND_CPU", "count": 1}],
        "parameters": _as_parameters(_parameters(manifest, component, batch, package)),
    }
    if batch > 1:
        config["dynamic_batching"] = {"preferred_batch_size": [batch]}
    if warmup := _warmup(component, inputs, batch):
        config["model_warmup"] = [warmup]
    level = _ORT_LEVELS.get(component.options.get("graph_optimization_level", ""))
    if runtime == "onnxruntime" and level is not None:
        config["optimization"] = {"graph": {"level": level}}
    return config


def largest_batch(component: ComponentEntry) -> int:
    """Return the largest batch that Triton may form, or 0 where the component has no batch axis.

    It has one if axis 0 of every input counts the samples and runs from 1 to the component's largest batch, and of
    every output too, or without a bound.
    """
    if component.max_batch < 2:
        return 0
    batched = all(
        tensor.shape is not None
        and len(tensor.shape.max) > 0
        and not tensor.batch_axis
        and tensor.shape.min[0] == 1 < tensor.shape.max[0]
        for tensor in (*component.signature.inputs, *component.signature.outputs)
    )
    inputs = {tensor.shape.max[0] for tensor in component.signature.inputs if tensor.shape and tensor.shape.max}
    fits = all(
        tensor.shape is not None and tensor.shape.max[:1] >= (component.max_batch,)
        for tensor in component.signature.outputs
    )
    return component.max_batch if batched and fits and inputs == {component.max_batch} else 0


def _tensor(component: ComponentEntry, tensor: Tensor, runtime: str, batch: int) -> dict[str, Any]:
    if tensor.dtype not in TYPES or tensor.dtype in BACKENDS[runtime].unsupported:
        raise EngineFailure(
            FailureReason.UNSUPPORTED_PRECISION,
            f"Triton's backend for {runtime} does not take the element type {tensor.dtype} of tensor '{tensor.name}' "
            f"in component '{component.name}'.",
        )
    if tensor.shape is None:
        raise _wrong_shape(component, tensor, "its number of axes is not known, and Triton asks for it")
    dims = [low if low == high else -1 for low, high in zip(tensor.shape.min, tensor.shape.max, strict=True)]
    values = {"name": tensor.name, "data_type": TYPES[tensor.dtype], "dims": dims[1:] if batch else dims}
    if values["dims"]:
        return values
    if not batch and runtime == "openvino":
        raise _wrong_shape(component, tensor, "it is a scalar, which Triton's backend for openvino does not take")
    # Triton knows no tensor without axes: clients see one of one element.
    return values | {"dims": [1]} | ({"reshape": {}} if batch else {})


def _warmup(component: ComponentEntry, inputs: Sequence[dict[str, Any]], batch: int) -> dict[str, Any]:
    """Return one call at the shapes that the component is tuned for."""
    tensors = component.signature.inputs
    shapes = [tensor.shape.opt if tensor.shape else () for tensor in tensors]
    if not tensors or any(tensor.dtype == "string" or any(tensor.value or ()) for tensor in tensors):
        return {}  # zeros are no text, and not the value that the input needs
    data = {
        value["name"]: {
            "data_type": value["data_type"],
            "dims": list(shape[1:] if batch else shape) or [1],
            "zero_data": True,
        }
        for value, shape in zip(inputs, shapes, strict=True)
    }
    return {"name": "opt", "batch_size": min(shape[0] for shape in shapes) if batch else 1, "inputs": data}


def _parameters(manifest: Manifest, component: ComponentEntry, batch: int, package: str) -> dict[str, str]:
    form, options = manifest.form_of(component), component.options
    values: dict[str, str] = {
        "lathe.package": package,
        "lathe.precision": form.precision,
        "lathe.device": manifest.device,
        "lathe.runtime_version": form.runtime.version,
        "lathe.source_digest": manifest.lineage.source_digest,
    }
    for tensor in component.signature.inputs:
        if tensor.shape is not None and tensor.shape.min != tensor.shape.max:
            shapes = ("min", tensor.shape.min), ("opt", tensor.shape.opt), ("max", tensor.shape.max)
            profile = " ".join(f"{end}={'x'.join(map(str, shape))}" for end, shape in shapes)
            values[f"lathe.shape_profile.{tensor.name}"] = profile
    if form.runtime.name == "onnxruntime":
        values["execution_mode"] = _ORT_MODES.get(options.get("execution_mode", ""), "")
    else:
        values |= {name: options.get(name, "") for name in _OPENVINO_OPTIONS}
        values["HINT_BF16"] = "YES" if options.get("INFERENCE_PRECISION_HINT") == "bf16" else ""
        values["lathe.note"] = _NO_FLOAT32 if options.get("INFERENCE_PRECISION_HINT") == "f32" else ""
        values["ENABLE_BATCH_PADDING"] = "YES" if batch > 1 else ""
    return {name: value for name, value in values.items() if value}


def _as_parameters(values: dict[str, str]) -> dict[str, dict[str, str]]:
    return {name: {"string_value": value} for name, value in sorted(values.items())}


def _wrong_shape(component: ComponentEntry, tensor: Tensor, why: str) -> EngineFailure:
    message = f"Tensor '{tensor.name}' of component '{component.name}' cannot be served by Triton: {why}."
    return EngineFailure(FailureReason.INVALID_MODEL, message)
