"""Declared inputs of a model, and the specs of a package's and of its network's inputs that follow from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel

from engines.failures import invalid
from engines.tensors.preprocessing import Preprocessing, check_preprocessing
from engines.tensors.shapes import check_shape, format_shape
from engines.tensors.signature import NO_BATCH, TensorSpec


class ComponentInput(BaseModel, frozen=True):
    """One declared input of a component.

    Attributes:
        shape: Shape of one sample that the package is tuned for; empty for a scalar.
        sample_min: Smallest value of generated samples; if `sample_max` is 0 as well, the dtype's usual range counts.
        min_shape: Smallest extent of each axis; empty if no axis but the batch varies.
        max_shape: Largest extent of each axis; empty if `min_shape` is.
        shapes: The only shapes allowed; empty if all between `min_shape` and `max_shape` are.
        place: Place among the arguments, as tensor information writes it; either all inputs have one or none.
        batch_axis: Axis that counts the samples of a batch: the first if None; -1 if none does.
        sample_values: Value in generated samples: one for all elements, or one for each element of `shape`.
    """

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    sample_min: float = 0.0
    sample_max: float = 0.0
    preprocessing: Preprocessing = Preprocessing()
    min_shape: tuple[int, ...] = ()
    max_shape: tuple[int, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    place: str = ""
    batch_axis: int | None = None
    sample_values: tuple[float, ...] = ()


def package_inputs(declared: Sequence[ComponentInput], max_batch: int) -> tuple[TensorSpec, ...]:
    """Return the inputs of the package as the template declares them, the batch dynamic up to the largest.

    Raises:
        EngineFailure: INVALID_SPEC where a shape cannot be, or preprocessing does not fit its channels.
    """
    specs = []
    for given in declared:
        check_preprocessing(given.name, given.preprocessing, given.shape)
        if max_batch > 1:
            _check_one_sample(given)
        spec = _declared(given, given.dtype or "float32", declared)
        specs.append(spec.batched(max_batch) if max_batch > 1 and spec.has_batch else spec)
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


def network_inputs(declared: Sequence[ComponentInput]) -> tuple[TensorSpec, ...]:
    """Return the network's own inputs for one sample: as `package_inputs`, without the batch, in the network's dtypes.

    Raises:
        EngineFailure: INVALID_SPEC where a shape cannot be.
    """
    return tuple(_declared(given, network_dtype(given), declared) for given in declared)


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
