"""Declared inputs of a model, and the specs of a package's and of its network's inputs that follow from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from pydantic import BaseModel

from engines.failures import EngineFailure, InvalidField
from engines.tensors.preprocessing import (
    Preprocessing,
    channel_axis,
    check_nv12_shape,
    check_preprocessing,
    nv12_shape,
)
from engines.tensors.shapes import Shape, check_shape, format_shape
from engines.tensors.signature import NO_BATCH, TensorSpec


class ComponentInput(BaseModel, frozen=True):
    """One declared input of a component.

    Attributes:
        shape: Shape of one sample that the package is tuned for; empty for a scalar. If the package takes NV12 images,
            this and the other shapes are those of the image that the network takes.
        dtype: Element type of the package's input. NV12 images are `uint8`, whatever it says.
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

    @property
    def steps(self) -> Preprocessing:
        """The preprocessing, with the layout of the network's images."""
        given = self.preprocessing
        last = given.takes_nv12 and channel_axis(given, self.shape) != 1
        return given.model_copy(update={"channels_last": True}) if last else given

    def in_package(self, shape: Shape) -> Shape:
        """Return the shape of the package's input for one of the declared shapes, which may be empty."""
        steps = self.steps
        return nv12_shape(shape, channels_last=steps.channels_last) if shape and steps.takes_nv12 else shape


def active_steps(inputs: Sequence[ComponentInput]) -> dict[str, Preprocessing]:
    """Return the preprocessing of the inputs that have any, by name."""
    return {given.name: given.steps for given in inputs if given.preprocessing.active}


def check_input(given: ComponentInput, max_batch: int) -> None:
    """Refuse an impossible declared input: its shapes, batch axis, preprocessing and values of samples.

    Args:
        given: The input, with the shape of one sample.
        max_batch: Largest batch of the component.

    Raises:
        InvalidField: The field within the input, such as `shape`.
    """
    axis = _checked_batch_axis(given, max_batch)
    _check_elements("shape", given, given.shape, axis, max_batch)
    _check_ends(given, axis)
    _check_elements("max_shape", given, given.max_shape, axis, max_batch)
    if given.sample_min > given.sample_max:
        raise InvalidField("sample_min", f"sample_min {given.sample_min} is over sample_max {given.sample_max}")
    if given.shape:  # without one, tensor information may still state it
        _check_preprocessing(given)
    shape = given.in_package(given.shape)
    if len(given.sample_values) not in {0, 1, math.prod(shape)}:
        raise InvalidField(
            "sample_values",
            f"{len(given.sample_values)} values; give 1 for all elements, or one for each of the "
            f"{math.prod(shape)} elements of {format_shape(shape)}",
        )


def _check_preprocessing(given: ComponentInput) -> None:
    check_preprocessing(given.name, given.preprocessing, given.shape)
    if not given.preprocessing.takes_nv12:
        return
    for field in ("min_shape", "max_shape"):
        if shape := getattr(given, field):
            check_nv12_shape(field, given.name, given.preprocessing, shape)
    for shape in given.shapes:
        check_nv12_shape("shape", given.name, given.preprocessing, shape)
    if given.batch_axis not in {None, 0, NO_BATCH}:
        raise InvalidField("batch_axis", f"the batch of NV12 images is axis 0, and not axis {given.batch_axis}")
    if given.dtype not in {"", "uint8"} and not given.dtype.startswith("float"):
        raise InvalidField(
            "dtype",
            f"NV12 images are uint8, and the network takes floating-point numbers: {given.dtype} is neither",
            "Leave it out, or give uint8.",
        )


def _checked_batch_axis(given: ComponentInput, max_batch: int) -> int:
    """Return the batch axis, `NO_BATCH` if there is none; raise InvalidField if it cannot be the batch."""
    axis = given.batch_axis or 0
    if not given.shape or axis == NO_BATCH:
        return NO_BATCH
    if axis >= len(given.shape):
        raise InvalidField("batch_axis", f"the shape {format_shape(given.shape)} has no axis {axis}; count from 0")
    if given.shape[axis] == 1:
        return axis
    if given.batch_axis is None and max_batch == 1:
        return NO_BATCH
    raise InvalidField(
        "shape" if given.batch_axis is None else "batch_axis",
        f"the shape {format_shape(given.shape)} of input '{given.name}' is that of one sample: its batch axis, axis "
        f"{axis}, is 1 and not {given.shape[axis]}",
        "Say in batch_axis which axis counts the samples, or -1 if none does (in tensor information batch=1 or "
        "batch=none); or leave max_batch at 1.",
    )


def _check_elements(field: str, given: ComponentInput, shape: Shape, axis: int, max_batch: int) -> None:
    try:
        check_shape([max_batch if place == axis else extent for place, extent in enumerate(shape)], given.name)
    except EngineFailure as failure:
        raise InvalidField(field, f"at the largest batch: {failure.message.rstrip('.')}") from None


def _check_ends(given: ComponentInput, batch_axis: int) -> None:
    """Refuse ends that are not around the shape: in each axis `min_shape`, `shape`, `max_shape` must rise."""
    ends = {"min_shape": given.min_shape, "max_shape": given.max_shape}
    if not any(ends.values()):
        return
    for field, extents in ends.items():
        if not extents or len(extents) != len(given.shape):
            raise InvalidField(
                field,
                f"min_shape, shape and max_shape have one extent per axis: {list(extents)} beside {list(given.shape)}",
            )
        if batch_axis != NO_BATCH and extents[batch_axis] != 1:
            raise InvalidField(
                field,
                f"its batch axis, axis {batch_axis}, is 1 and not {extents[batch_axis]}: the batch is `max_batch` of "
                "the component",
            )
    for axis, (least, extent, most) in enumerate(zip(given.min_shape, given.shape, given.max_shape, strict=True)):
        if not 1 <= least <= extent <= most:
            field = "max_shape" if 1 <= least <= extent else "min_shape"
            raise InvalidField(field, f"axis {axis}: min {least}, shape {extent} and max {most} must rise from 1")


def package_inputs(declared: Sequence[ComponentInput], max_batch: int) -> tuple[TensorSpec, ...]:
    """Return the inputs of the package as they are declared, the batch dynamic up to the largest.

    NV12 images have the shape (N, 3H/2, W), one axis less than what is declared, and the dtype uint8.

    Raises:
        EngineFailure: INVALID_SPEC if a shape is impossible, or preprocessing does not fit its channels.
    """
    specs = batched_network_inputs(declared, max_batch)
    return tuple(_in_package(spec, given) for spec, given in zip(specs, declared, strict=True))


def batched_network_inputs(declared: Sequence[ComponentInput], max_batch: int) -> tuple[TensorSpec, ...]:
    """Return the network's own inputs, the batch dynamic up to the largest; fails as `package_inputs`."""
    specs = []
    for given, spec in zip(declared, network_inputs(declared), strict=True):
        _check_preprocessing(given)
        if max_batch > 1:
            _checked_batch_axis(given, max_batch)
        specs.append(spec.batched(max_batch) if max_batch > 1 and spec.has_batch else spec)
    return tuple(specs)


def network_inputs(declared: Sequence[ComponentInput]) -> tuple[TensorSpec, ...]:
    """Return the network's own inputs for one sample: as `package_inputs`, without the batch, in the network's dtypes.

    Raises:
        EngineFailure: INVALID_SPEC if a shape is impossible.
    """
    return tuple(_declared(given, network_dtype(given), declared) for given in declared)


def _in_package(spec: TensorSpec, given: ComponentInput) -> TensorSpec:
    least, usual, most = (given.in_package(shape) for shape in (spec.min, spec.opt, spec.max))
    members = tuple(map(given.in_package, spec.members))
    return replace(spec, dtype=package_dtype(given), min=least, opt=usual, max=most, members=members)


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
    most = check_shape(given.max_shape, given.name)
    return TensorSpec(
        given.name, dtype, given.min_shape, given.shape, most, members=given.shapes, batch_axis=batch_axis
    )


def package_dtype(given: ComponentInput) -> str:
    """Return the dtype that the package takes."""
    return "uint8" if given.preprocessing.takes_nv12 else given.dtype or "float32"


def network_dtype(given: ComponentInput) -> str:
    """Return the dtype that the network takes: float32 if preprocessing turns integers into fractions."""
    dtype = given.dtype or "float32"
    return "float32" if given.preprocessing.active and not dtype.startswith("float") else dtype
