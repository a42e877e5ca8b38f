"""Samples that a source and its built form are compared on: the user's own, or seeded random ones.

A batch is one feed: every input by name, with the batch on axis 0 where that axis ranges from 1 to one number in all
inputs in which it varies. Where others vary too, feeds follow at both ends of their ranges, or at each shape of a set.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines.backends.base import Array, Arrays
from engines.failures import EngineFailure, FailureReason
from engines.sample_shapes import at_batch, is_batched, largest_batch, points, stretched, with_batches
from engines.sample_values import NOISE, Field, plausible
from engines.signature import Shape, TensorSpec, format_shape

USER_PROVIDED = "user provided"
LATHE_PROVIDED = "lathe provided"
SINGLE_BATCHES = 4
"""Feeds that are generated for a graph without a dynamic batch."""
MAX_FEED_BYTES = 2**28
"""Most bytes of one feed, 256 MiB: larger batches are compared at the largest batch that fits."""
MAX_USER_SAMPLES = 4096
"""Most samples of a user that are compared; the first ones count."""


@dataclass(frozen=True)
class SampleRange:
    """Values that one input's generated samples take; both 0 stands for the dtype's usual range."""

    low: float = 0.0
    high: float = 0.0
    pixels: bool = False

    @property
    def declared(self) -> bool:
        """Whether the smallest and largest value are said."""
        return (self.low, self.high) != (0.0, 0.0)


@dataclass(frozen=True)
class Samples:
    """Feeds to compare on.

    Attributes:
        feeds: The feeds: at the tuned shapes, smallest batch first, then at the other shapes.
        source: `user provided` or `lathe provided`.
        seed: Seed of generated feeds.
        batch_sizes: Batch sizes among the feeds, rising.
        count: Samples in all feeds together.
        values: What generated feeds hold: `noise`, and the kinds of `engines.sample_values`.
    """

    feeds: tuple[Arrays, ...]
    source: str
    seed: int
    batch_sizes: tuple[int, ...]
    count: int
    values: tuple[str, ...] = ()


def batch_sizes(inputs: Sequence[TensorSpec]) -> tuple[int, ...]:
    """Return the batch sizes to compare: 1, 2 and the largest, as far as the inputs allow and memory holds."""
    largest = largest_batch(inputs)
    bytes_of_one = sum(math.prod(spec.max[1:]) * _dtype(spec).itemsize for spec in inputs if is_batched(spec, largest))
    fitting = max(1, min(largest, MAX_FEED_BYTES // max(1, bytes_of_one)))
    return tuple(sorted({1, min(2, fitting), fitting}))


def generated(inputs: Sequence[TensorSpec], ranges: Mapping[str, SampleRange], seed: int) -> Samples:
    """Return seeded random feeds for every batch size of `batch_sizes`, then one for each other shape.

    If an input looks like an image, a signal or a text, one more feed holds such values, at a small batch.
    Floating-point inputs are standard normal, or uniform in a declared range; pixels are whole numbers in 0..255;
    integers are uniform in a declared range, both ends included, else in their whole range where they have 8 bits, else
    0 or 1, which are indices in every vocabulary.
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
    return Samples(feeds, LATHE_PROVIDED, seed, sizes, count, (NOISE, *kinds))


def _plausible(
    rng: np.random.Generator, inputs: Sequence[TensorSpec], ranges: Mapping[str, SampleRange], shapes: Sequence[Shape]
) -> tuple[Arrays, tuple[str, ...]]:
    """Return a feed of values as they may come in use, and of which kinds they are; noise where nothing tells."""
    drawn: Arrays = {}
    fields = []
    for spec, shape in zip(inputs, shapes, strict=True):
        values, dtype = ranges.get(spec.name, SampleRange()), _dtype(spec)
        drawn[spec.name] = _draw(rng, spec, values, shape)
        span = (values.low, values.high) if values.declared else (0.0, 255.0) if values.pixels else None
        if dtype.kind in "iu" and span is None and dtype.itemsize == 1:
            span = float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)
        fields.append(Field(spec.name, dtype.name, shape, span))
    found, kinds = plausible(rng, fields)
    for name, array in found.items():
        whole = drawn[name].dtype.kind in "iu" or ranges.get(name, SampleRange()).pixels
        drawn[name] = (np.rint(array) if whole else array).astype(drawn[name].dtype)
    return drawn, kinds


def from_npz(path: Path, component: str, inputs: Sequence[TensorSpec], *, only: bool) -> Samples:
    """Return the feeds of a user's NPZ, whose arrays are named `input` (first component) or `component/input`.

    Axis 0 of a batched input counts the samples. They are compared one by one where the batch is fixed, else at
    batches of 1, 2 and the largest. An array of one sample serves for all. Where other axes vary too, the first
    sample is compared at the other shapes as well: cut, or repeated along an axis.

    Args:
        path: The NPZ file.
        component: Name of the component.
        inputs: Its inputs.
        only: Whether bare input names are this component's.

    Raises:
        EngineFailure: INVALID_SPEC naming the array that is missing, of a wrong shape or dtype, or not finite.
    """
    arrays = _load(path)
    batch = largest_batch(inputs)
    chosen = {spec.name: _checked(spec, _find(arrays, component, spec.name, bare=only), batch) for spec in inputs}
    counts = {spec.name: _count(chosen[spec.name], spec, batch) for spec in inputs if spec.max}
    several = {count for count in counts.values() if count > 1}
    if len(several) > 1:
        raise _bad(f"The samples' arrays hold different numbers of samples: {counts}.")
    count = min(MAX_USER_SAMPLES, max(several, default=1))
    largest = batch_sizes(inputs)[-1]
    sizes = _split(count, largest)
    feeds, start = [], 0
    for size in sizes:
        indices = np.arange(start, start + size) % count
        feeds.append({spec.name: _rows(chosen[spec.name], spec, indices, batch) for spec in inputs})
        start += size
    own = tuple(array.shape for array in feeds[0].values())
    for shapes in points(inputs):
        if shapes != own and len(points(inputs)) > 1:
            pairs = zip(feeds[0].items(), shapes, strict=True)
            feeds.append({name: stretched(array, shape) for (name, array), shape in pairs})
    return Samples(tuple(feeds), USER_PROVIDED, 0, tuple(sorted(set(sizes))), count)


def _split(count: int, largest: int) -> list[int]:
    """Return batch sizes that cover `count` samples, with batches of 1, 2 and the largest among them."""
    wanted = sorted({1, min(2, largest), largest})
    rest = count - sum(wanted)
    if rest <= 0:
        return wanted if largest > 1 else [1] * count
    return [*wanted, *[largest] * (rest // largest), *([rest % largest] if rest % largest else [])]


def _rows(array: Array, spec: TensorSpec, indices: Array, batch: int) -> Array:
    if not spec.max:
        return array
    if is_batched(spec, batch):
        return np.ascontiguousarray(array[indices % len(array)])
    step = len(array) // _count(array, spec, batch)
    first = int(indices[0]) * step % len(array)
    return np.ascontiguousarray(array[first : first + step])


def _count(array: Array, spec: TensorSpec, batch: int) -> int:
    """Return how many samples an array holds: its rows, or as often as it has all rows of one; 1 where these vary."""
    if is_batched(spec, batch):
        return len(array)
    return len(array) // spec.max[0] if spec.min[0] == spec.max[0] else 1


def _dtype(spec: TensorSpec) -> np.dtype[Any]:
    try:
        return np.dtype(spec.dtype)
    except TypeError:
        raise _bad(f"Input '{spec.name}' has the element type {spec.dtype}, for which there are no samples.") from None


def _draw(rng: np.random.Generator, spec: TensorSpec, values: SampleRange, shape: Shape) -> Array:
    dtype = _dtype(spec)
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


def _integer_range(spec: TensorSpec, dtype: np.dtype[Any], values: SampleRange) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    if not values.declared:
        if dtype.itemsize == 1:
            return int(limits.min), int(limits.max)
        return 0, 255 if values.pixels else 1
    low, high = math.ceil(values.low), math.floor(values.high)
    if low > high or low < limits.min or high > limits.max:
        raise _bad(f"Input '{spec.name}': no {dtype} samples lie in {values.low:g}..{values.high:g}.")
    return low, high


def _load(path: Path) -> dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise _bad("The samples are a single NPY array; an NPZ names each input. Save them with numpy.savez.")
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise _bad(f"The samples are no readable NPZ of plain arrays: {error}") from error


def _find(arrays: Mapping[str, Array], component: str, name: str, *, bare: bool) -> Array:
    keys = [f"{component}/{name}", *([name] if bare else [])]
    for key in keys:
        if key in arrays:
            return arrays[key]
    have = ", ".join(sorted(arrays)[:20]) or "none"
    raise _bad(f"The samples hold no array '{keys[-1]}' for the input '{name}'; they hold {have}.")


def _checked(spec: TensorSpec, array: Array, batch: int) -> Array:
    dtype = _dtype(spec)
    if not np.can_cast(array.dtype, dtype, "same_kind") and not (dtype.kind == "f" and array.dtype.kind in "iu"):
        raise _bad(f"The samples' array '{spec.name}' is {array.dtype}; the input takes {dtype}.")
    shape = array.shape
    fits = len(shape) == len(spec.max) and all(
        low <= extent <= high for extent, low, high in zip(shape[1:], spec.min[1:], spec.max[1:], strict=True)
    )
    if fits and shape and not is_batched(spec, batch):
        low, high = spec.min[0], spec.max[0]
        fits = low <= len(array) <= high if low != high else len(array) >= low and len(array) % low == 0
    own = (1, *shape[1:]) if is_batched(spec, batch) else shape
    if not fits or 0 in shape or (spec.members and own not in spec.members):
        wanted = "*".join(["N", *map(_extents, spec.min[1:], spec.max[1:])]) if spec.max else "scalar"
        if spec.members:
            wanted = " or ".join(map(format_shape, spec.members))
        raise _bad(f"The samples' array '{spec.name}' has the shape {format_shape(shape)}; the input takes {wanted}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise _bad(f"The samples' array '{spec.name}' holds values that are not finite.")
    return np.ascontiguousarray(array.astype(dtype, copy=False)).reshape(shape)


def _extents(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}..{high}"


def _bad(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message)
