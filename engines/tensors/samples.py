"""Samples that a source and its built form are compared on: the user's own, or seeded random ones.

A batch is one feed: every input by name, its batch axis as long as the batch if that axis ranges from 1 to one number
in all inputs in which it varies. If others vary too, feeds follow at both ends of their ranges, or at each shape of a
set.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from engines.failures import invalid
from engines.imaging import Nv12
from engines.tensors import Array, Arrays
from engines.tensors.sample_values import NOISE, Field, plausible
from engines.tensors.shapes import Shape, format_shape
from engines.tensors.signature import TensorSpec, shape_points

SINGLE_BATCHES = 4
"""Feeds that are generated for a graph without a dynamic batch."""
MAX_FEED_BYTES = 2**28
"""Most bytes of one feed, 256 MiB: larger batches are compared at the largest batch that fits."""


class SampleSource(StrEnum):
    """Where samples come from, as the protos name it."""

    USER = "USER"
    GENERATED = "GENERATED"
    MIXED = "MIXED"

    @property
    def words(self) -> str:
        """The same for people."""
        return {"USER": "user provided", "GENERATED": "generated", "MIXED": "user provided and generated"}[self]


@dataclass(frozen=True)
class SampleRange:
    """Range of one input's generated samples; if both ends are 0, the dtype's usual range.

    Attributes:
        low: Smallest value.
        high: Largest value.
        pixels: Whether they are integers in 0..255 if no range is declared.
        nv12: Colours of NV12 images; None if they are none.
        values: The values themselves: one for all elements, or one for each element at the tuned shape of one sample.
    """

    low: float = 0.0
    high: float = 0.0
    pixels: bool = False
    nv12: Nv12 | None = None
    values: tuple[float, ...] = ()

    @property
    def declared(self) -> bool:
        """Whether a range is declared."""
        return (self.low, self.high) != (0.0, 0.0)


@dataclass(frozen=True)
class Samples:
    """Feeds to compare on.

    Attributes:
        feeds: The feeds: at the tuned shapes, smallest batch first, then at the other shapes.
        source: Where they come from.
        seed: Seed of generated feeds.
        batch_sizes: Batch sizes among the feeds, rising.
        count: Samples in all feeds together.
        values: Kinds of generated values: `noise`, and those of `engines.tensors.sample_values`.
    """

    feeds: tuple[Arrays, ...]
    source: SampleSource
    seed: int
    batch_sizes: tuple[int, ...]
    count: int
    values: tuple[str, ...] = ()


def batch_sizes(inputs: Sequence[TensorSpec]) -> tuple[int, ...]:
    """Return the batch sizes to compare: 1, 2 and the largest, as far as inputs and memory allow."""
    largest = largest_batch(inputs)
    bytes_of_one = sum(
        math.prod(spec.at_batch(spec.max, 1)) * dtype_of(spec).itemsize for spec in inputs if is_batched(spec, largest)
    )
    fitting = max(1, min(largest, MAX_FEED_BYTES // max(1, bytes_of_one)))
    return tuple(sorted({1, min(2, fitting), fitting}))


def generated(inputs: Sequence[TensorSpec], ranges: Mapping[str, SampleRange], seed: int) -> Samples:
    """Return seeded random feeds for every batch size of `batch_sizes`, then one for each other shape.

    If an input looks like an image, a signal or a text, one more feed holds such values, at a small batch.
    Floating-point inputs are standard normal, or uniform in a declared range; pixels are integers in 0..255;
    integers are uniform in a declared range, both ends included, else in their whole range if they have 8 bits, else
    0 or 1, which are indices in every vocabulary. An input with given values has these.
    """
    rng = np.random.default_rng(seed)
    sizes = batch_sizes(inputs)
    counts = sizes if len(sizes) > 1 else sizes * SINGLE_BATCHES
    tuned, *others = points(inputs)
    feeds = tuple(
        {
            spec.name: _draw(rng, spec, ranges.get(spec.name, SampleRange()), shape)
            for spec, shape in zip(inputs, at_batch(inputs, shapes, size), strict=True)
        }
        for shapes, size in [*((tuned, size) for size in counts), *with_batches(others, sizes)]
    )
    count = sum(counts) + sum(n for _, n in with_batches(others, sizes))
    size = sizes[:2][-1]
    feed, kinds = _plausible(rng, inputs, ranges, at_batch(inputs, tuned, size))
    if kinds:
        feeds, count = (*feeds, feed), count + size
    return Samples(feeds, SampleSource.GENERATED, seed, sizes, count, (NOISE, *kinds))


def one_feed(
    inputs: Sequence[TensorSpec], ranges: Mapping[str, SampleRange], seed: int, shapes: Sequence[Shape]
) -> Arrays:
    """Return one seeded random feed of these shapes, one for each input; the values are those of `generated`."""
    rng = np.random.default_rng(seed)
    return {
        spec.name: _draw(rng, spec, ranges.get(spec.name, SampleRange()), shape)
        for spec, shape in zip(inputs, shapes, strict=True)
    }


def _plausible(
    rng: np.random.Generator, inputs: Sequence[TensorSpec], ranges: Mapping[str, SampleRange], shapes: Sequence[Shape]
) -> tuple[Arrays, tuple[str, ...]]:
    """Return a feed of plausible values, and their kinds; noise for inputs of unknown kind."""
    drawn: Arrays = {}
    fields = []
    for spec, shape in zip(inputs, shapes, strict=True):
        values, dtype = ranges.get(spec.name, SampleRange()), dtype_of(spec)
        drawn[spec.name] = _draw(rng, spec, values, shape)
        span = (values.low, values.high) if values.declared else (0.0, 255.0) if values.pixels else None
        if dtype.kind in "iu" and span is None and dtype.itemsize == 1:
            span = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
        if not values.values:
            fields.append(Field(spec.name, dtype.name, shape, span, values.nv12))
    found, kinds = plausible(rng, fields)
    for name, array in found.items():
        whole = drawn[name].dtype.kind in "iu" or ranges.get(name, SampleRange()).pixels
        drawn[name] = (np.rint(array) if whole else array).astype(drawn[name].dtype)
    return drawn, kinds


def dtype_of(spec: TensorSpec) -> np.dtype[Any]:
    """Return the element type of an input's samples; EngineFailure INVALID_SPEC if there is none."""
    try:
        return np.dtype(np.str_ if spec.dtype == "string" else spec.dtype)
    except TypeError:
        raise invalid(f"Input '{spec.name}' has the element type {spec.dtype}, which samples cannot have.") from None


def _draw(rng: np.random.Generator, spec: TensorSpec, values: SampleRange, shape: Shape) -> Array:
    dtype = dtype_of(spec)
    if values.values:
        return given_array(spec, values.values, shape)
    if dtype.kind == "U":
        raise invalid(
            f"Input '{spec.name}' takes text, and random text would prove nothing.",
            "Give samples with an array of text for it: --samples of convert, --test-data of optimize.",
        )
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        low, high = _integer_range(spec, dtype, values)
        return rng.integers(low, high, shape, dtype=dtype, endpoint=True)
    if values.declared:
        return rng.uniform(values.low, values.high, shape).astype(dtype)
    if values.pixels:
        return rng.integers(0, 256, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def given_array(spec: TensorSpec, values: Sequence[float], shape: Shape) -> Array:
    """Return given values in a shape: those of one sample, cut or repeated along each axis of another extent."""
    dtype, one = dtype_of(spec), spec.single().opt
    if len(values) not in {1, math.prod(one)}:
        raise invalid(
            f"Input '{spec.name}' is given {len(values)} values; give 1, or one for each of the {math.prod(one)} "
            f"elements of its shape {format_shape(one)}."
        )
    array = np.full(one, values[0]) if len(values) == 1 else np.reshape(values, one)
    made: Array = array.astype(dtype)
    if not np.array_equal(made.astype(np.float64), array) and dtype.kind != "f":
        raise invalid(f"Input '{spec.name}' takes {dtype}, which does not hold the given values {list(values)[:8]}.")
    return stretched(made, shape) if shape else made


def _integer_range(spec: TensorSpec, dtype: np.dtype[Any], values: SampleRange) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    if not values.declared:
        if dtype.itemsize == 1:
            return int(limits.min), int(limits.max)
        return 0, 255 if values.pixels else 1
    low, high = math.ceil(values.low), math.floor(values.high)
    if low > high or low < limits.min or high > limits.max:
        raise invalid(f"Input '{spec.name}': no {dtype} samples lie in {values.low:g}..{values.high:g}.")
    return low, high


def largest_batch(inputs: Sequence[TensorSpec]) -> int:
    """Return the largest batch; 1 if the batch axes that vary do not all range from 1 to one number."""
    batched = [spec for spec in inputs if spec.has_batch]
    ends = {spec.batch_ends for spec in batched if spec.batch_ends[0] != spec.batch_ends[1]}
    sets = any(member[spec.batch_axis] != 1 for spec in batched for member in spec.members)
    (low, high) = next(iter(ends)) if len(ends) == 1 and not sets else (0, 1)
    return high if low == 1 else 1


def is_batched(spec: TensorSpec, batch: int) -> bool:
    """Return whether an input has a batch axis that varies with the batch, which is at most `batch`."""
    return batch > 1 and spec.has_batch and spec.batch_ends == (1, batch)


def stretched(array: Array, shape: Shape) -> Array:
    """Return the array in another shape of as many axes: each axis cut, or repeated from its beginning."""
    for axis, extent in enumerate(shape):
        array = np.take(array, np.arange(extent) % array.shape[axis], axis)
    return array


def points(inputs: Sequence[TensorSpec]) -> tuple[tuple[Shape, ...], ...]:
    """Return the points of one sample each, as `shape_points`."""
    batch = largest_batch(inputs)
    return shape_points([spec.single() if is_batched(spec, batch) else spec for spec in inputs])


def with_batches(points: Sequence[tuple[Shape, ...]], sizes: Sequence[int]) -> list[tuple[tuple[Shape, ...], int]]:
    """Return each point with a batch: the largest for the last, which is the largest of a range, else the smallest."""
    return [(point, sizes[-1] if point is points[-1] else sizes[0]) for point in points]


def at_batch(inputs: Sequence[TensorSpec], shapes: Sequence[Shape], size: int) -> list[Shape]:
    """Return one point's shapes with a batch of a size."""
    batch = largest_batch(inputs)
    return [
        spec.at_batch(shape, size) if is_batched(spec, batch) else shape
        for spec, shape in zip(inputs, shapes, strict=True)
    ]
