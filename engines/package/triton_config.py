"""Triton's configuration of one component, as the JSON form of its `inference.ModelConfig`.

A configuration that does not fit keeps a model from loading. What a backend takes is stated in its runtime's room
(`serving.py`), read from the backends' own sources. No backend has optimization profiles: the bounds of dynamic axes
are in parameters, and a warm-up runs at `opt`. It feeds zeros, because random numbers are not valid indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import ComponentEntry, Manifest, Tensor
from engines.runtimes.serving import TritonBackend, triton_backend

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
        EngineFailure: TOOLCHAIN_UNAVAILABLE if Triton has no backend for the runtime, UNSUPPORTED_PRECISION for an
            element type that the backend does not take; INVALID_MODEL for a
            shape that it cannot serve.
    """
    backend = triton_backend(manifest.form_of(component).runtime.name, component.name)
    batch = largest_batch(component)
    label_of = {label.output: label.file_name for label in labels}
    settings = backend.settings(component.options, batch)
    inputs = [_tensor(component, tensor, backend, batch) for tensor in component.signature.inputs]
    outputs = [_tensor(component, tensor, backend, batch) for tensor in component.signature.outputs]
    for output in outputs:
        if output["name"] in label_of:
            output["label_filename"] = label_of[output["name"]]
    config: dict[str, Any] = {
        "name": name,
        "backend": backend.name,
        "version_policy": {"specific": {"versions": [number]}},
        "max_batch_size": batch,
        "input": inputs,
        "output": outputs,
        "instance_group": [{"kind": backend.instances, "count": 1}],
        "parameters": _as_parameters({**_parameters(manifest, component, package), **settings.parameters}),
        **settings.fields,
    }
    if batch > 1:
        config["dynamic_batching"] = {"preferred_batch_size": [batch]}
    if warmup := _warmup(component, inputs, batch):
        config["model_warmup"] = [warmup]
    return config


def largest_batch(component: ComponentEntry) -> int:
    """Return the largest batch that Triton may form, or 0 if the component has no batch axis.

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


def _tensor(component: ComponentEntry, tensor: Tensor, backend: TritonBackend, batch: int) -> dict[str, Any]:
    if tensor.dtype not in TYPES or tensor.dtype in backend.unsupported:
        raise EngineFailure(
            FailureReason.UNSUPPORTED_PRECISION,
            f"Triton's backend {backend.name} does not take the element type {tensor.dtype} of tensor '{tensor.name}' "
            f"in component '{component.name}'.",
        )
    if tensor.shape is None:
        raise _wrong_shape(component, tensor, "its number of axes is not known, and Triton needs it")
    dims = [low if low == high else -1 for low, high in zip(tensor.shape.min, tensor.shape.max, strict=True)]
    values = {"name": tensor.name, "data_type": TYPES[tensor.dtype], "dims": dims[1:] if batch else dims}
    if values["dims"]:
        return values
    if not batch and not backend.takes_scalars:
        raise _wrong_shape(component, tensor, f"it is a scalar, which Triton's backend {backend.name} does not take")
    # Triton has no tensors without axes: clients see one of one element.
    return values | {"dims": [1]} | ({"reshape": {}} if batch else {})


def _warmup(component: ComponentEntry, inputs: Sequence[dict[str, Any]], batch: int) -> dict[str, Any]:
    """Return one call at the shapes that the component is tuned for."""
    tensors = component.signature.inputs
    shapes = [tensor.shape.opt if tensor.shape else () for tensor in tensors]
    if not tensors or any(tensor.dtype == "string" or any(tensor.value or ()) for tensor in tensors):
        return {}  # zeros are neither text nor the value that the input needs
    data = {
        value["name"]: {
            "data_type": value["data_type"],
            "dims": list(shape[1:] if batch else shape) or [1],
            "zero_data": True,
        }
        for value, shape in zip(inputs, shapes, strict=True)
    }
    return {"name": "opt", "batch_size": min(shape[0] for shape in shapes) if batch else 1, "inputs": data}


def _parameters(manifest: Manifest, component: ComponentEntry, package: str) -> dict[str, str]:
    form = manifest.form_of(component)
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
    return values


def _as_parameters(values: dict[str, str]) -> dict[str, dict[str, str]]:
    return {name: {"string_value": value} for name, value in sorted(values.items()) if value}


def _wrong_shape(component: ComponentEntry, tensor: Tensor, why: str) -> EngineFailure:
    message = f"Tensor '{tensor.name}' of component '{component.name}' cannot be served by Triton: {why}."
    return EngineFailure(FailureReason.INVALID_MODEL, message)
