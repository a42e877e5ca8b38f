"""The source of a conversion as the truth that its package is held to: the original network, run as it was trained.

Preprocessing that will be baked into the graph is done here in NumPy, by other code than that which bakes it in, so
that parity proves both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from engines.runtimes.protocol import Array, Arrays
from engines.spec.request import Component, ComponentInput, Preprocessing, invalid
from engines.tensors.signature import NO_BATCH, Signature, TensorSpec, check_shape, format_shape

if TYPE_CHECKING:
    import torch


Runner = Callable[[Sequence[Array]], list[Array]]
"""Computes the network's outputs, in order, from its arguments, in order."""


@dataclass(frozen=True)
class Source:
    """A model read into ONNX, and how to compute what it computed before.

    Attributes:
        onnx_path: The graph, without preprocessing.
        signature: Its interface.
        reader: What wrote the graph, for the log.
        runner: The original.
        module: The torch network behind it; None where the source is a graph already.
        preprocessing: What will be baked in, by input.
        constants: Lines of the source's code whose decisions about values the graph holds as constants.
        companions: Files that travel with the package, by their path in it: tokenizer, configuration.
        warnings: What a user should know of the reading: what the source offers and the package does not.
    """

    onnx_path: Path
    signature: Signature
    reader: str
    runner: Runner
    module: torch.nn.Module | None
    preprocessing: Mapping[str, Preprocessing]
    constants: tuple[str, ...] = ()
    companions: Mapping[str, Path] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def arguments(self, feed: Mapping[str, Array]) -> list[Array]:
        """Return the network's arguments for a feed of the package: preprocessed, in the order of `forward`."""
        none = Preprocessing()
        return [
            preprocess(feed[spec.name], self.preprocessing.get(spec.name, none), spec.dtype)
            for spec in self.signature.inputs
        ]

    def run(self, feed: Mapping[str, Array]) -> Arrays:
        """Return the original's outputs, by name, for a feed of the package."""
        values = self.runner(self.arguments(feed))
        return {spec.name: value for spec, value in zip(self.signature.outputs, values, strict=True)}


def preprocess(array: Array, steps: Preprocessing, dtype: str) -> Array:
    """Return `(x - mean) / scale` per channel in the network's dtype, after the channels are put in its order.

    Channels lie on axis 1 where its extent is their number, else on the last. Computed in float64 and rounded once.
    """
    if not steps.active:
        return array
    value = array.astype(np.float64)
    axis = channel_axis(steps, value.shape)
    if steps.swaps_channels:
        value = np.flip(value, axis)
    along = [-1 if position == axis else 1 for position in range(value.ndim)]
    if steps.mean_values:
        value = value - np.reshape(steps.mean_values, along)
    if steps.scale_values:
        value = value / np.reshape(steps.scale_values, along)
    return np.ascontiguousarray(value.astype(dtype))


def package_inputs(component: Component) -> tuple[TensorSpec, ...]:
    """Return the inputs of the package as the template declares them, the batch dynamic up to the largest.

    Raises:
        EngineFailure: INVALID_SPEC where a shape cannot be, or preprocessing does not fit its channels.
    """
    specs = []
    for given in component.inputs:
        check_preprocessing(given.name, given.preprocessing, given.shape)
        if component.largest_batch > 1:
            _check_one_sample(given)
        spec = _declared(given, given.dtype or "float32", component.inputs)
        specs.append(spec.batched(component.largest_batch) if component.largest_batch > 1 and spec.has_batch else spec)
    return tuple(specs)


def _check_one_sample(given: ComponentInput) -> None:
    axis = given.batch_axis or 0
    if given.shape and axis != NO_BATCH and given.shape[axis : axis + 1] != (1,):
        raise invalid(
            f"Input '{given.name}' is declared with the shape {format_shape(given.shape)}; of one sample, its batch "
            f"axis, axis {axis}, is 1.",
            "Say in batch_axis which axis counts the samples, -1 if none does (in tensor information batch=1 or "
            "batch=none); or leave max_batch at 1.",
        )


def network_inputs(component: Component) -> tuple[TensorSpec, ...]:
    """Return the network's own inputs for one sample: as `package_inputs`, without the batch, in the network's dtypes.

    Raises:
        EngineFailure: INVALID_SPEC where a shape cannot be.
    """
    return tuple(_declared(given, network_dtype(given), component.inputs) for given in component.inputs)


def _batch_axis(given: ComponentInput, inputs: Sequence[ComponentInput]) -> int:
    """Return the batch axis that an input declares; else the first, unless that is 1 in other inputs and not in it."""
    if given.batch_axis is not None:
        return given.batch_axis
    firsts = {other.shape[0] for other in inputs if other.shape and other.batch_axis is None}
    return 0 if len(firsts) == 1 or given.shape[:1] == (1,) else NO_BATCH


def _declared(given: ComponentInput, dtype: str, inputs: Sequence[ComponentInput]) -> TensorSpec:
    batch_axis = _batch_axis(given, inputs)
    if not given.min_shape and not given.max_shape:
        return replace(TensorSpec.fixed(given.name, dtype, given.shape), batch_axis=batch_axis)
    if not len(given.min_shape) == len(given.shape) == len(given.max_shape):
        raise invalid(
            f"Input '{given.name}': min_shape {format_shape(given.min_shape)}, shape {format_shape(given.shape)} and "
            f"max_shape {format_shape(given.max_shape)} differ in their number of axes."
        )
    most = check_shape(given.max_shape, given.name)
    return TensorSpec(
        given.name, dtype, given.min_shape, given.shape, most, members=given.shapes, batch_axis=batch_axis
    )


def network_dtype(given: ComponentInput) -> str:
    """Return the dtype that the network takes: float32 where preprocessing makes numbers of whole pixel values."""
    dtype = given.dtype or "float32"
    return "float32" if given.preprocessing.active and not dtype.startswith("float") else dtype


def channel_axis(steps: Preprocessing, shape: Sequence[int]) -> int:
    """Return the axis of the channels: the second where it has as many as the steps have values, else the last."""
    count = max(len(steps.mean_values), len(steps.scale_values), 3 if steps.swaps_channels else 1)
    return 1 if len(shape) > 1 and (count == 1 or shape[1] == count) else len(shape) - 1


def check_preprocessing(name: str, steps: Preprocessing, shape: Sequence[int]) -> None:
    """Refuse preprocessing that does not fit an input's channels.

    Raises:
        EngineFailure: INVALID_SPEC saying what does not fit.
    """
    if not steps.active:
        return
    if len(shape) < 2:
        raise invalid(f"Input '{name}' has preprocessing, but no channel axis: its shape is {list(shape)}.")
    channels = shape[channel_axis(steps, shape)]
    for what, values in (("mean", steps.mean_values), ("scale", steps.scale_values)):
        if len(values) not in {0, 1, channels}:
            raise invalid(
                f"Input '{name}' of shape {list(shape)} has {len(values)} {what} values; give 1, or one per channel."
            )
    if 0 in steps.scale_values:
        raise invalid(f"Input '{name}' has a scale value of 0; it is divided by.")
    if steps.swaps_channels and channels != 3:
        raise invalid(f"Input '{name}' of shape {list(shape)} has no 3 colour channels to put in order.")
