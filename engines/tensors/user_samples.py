"""A user's own samples: an NPZ with an array for each input, cut into the feeds that a form is compared on."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from engines.failures import EngineFailure, invalid
from engines.tensors import Array
from engines.tensors.samples import (
    SampleRange,
    Samples,
    SampleSource,
    batch_sizes,
    dtype_of,
    given_array,
    is_batched,
    largest_batch,
    points,
    stretched,
)
from engines.tensors.shapes import Shape, format_extents, format_shape
from engines.tensors.signature import TensorSpec

MAX_USER_SAMPLES = 4096
"""Most samples of a user that are compared; the first ones count."""


def from_npz(
    path: Path,
    component: str,
    inputs: Sequence[TensorSpec],
    ranges: Mapping[str, SampleRange] = MappingProxyType({}),
    *,
    only: bool,
) -> Samples:
    """Return the feeds of a user's NPZ, whose arrays are named `input` (first component) or `component/input`.

    The batch axis of an input counts the samples. They are compared one by one if the batch is fixed, else at
    batches of 1, 2 and the largest. An array of one sample serves for all. If other axes vary too, the first
    sample is compared at the other shapes as well: cut, or repeated along an axis.

    Args:
        path: The NPZ file.
        component: Name of the component.
        inputs: Its inputs.
        ranges: Declared values by input; an input with given values needs no array.
        only: Whether bare input names are this component's.

    Raises:
        EngineFailure: INVALID_SPEC naming the array that is missing, of a wrong shape or dtype, or not finite.
    """
    arrays = _load(path)
    batch = largest_batch(inputs)
    chosen = {}
    for spec in inputs:
        array = _find(arrays, component, spec.name, bare=only)
        values = ranges.get(spec.name, SampleRange()).values
        if array is None and not values:
            raise _missing(arrays, component, spec.name, bare=only)
        chosen[spec.name] = (
            given_array(spec, values, spec.single().opt) if array is None else _checked(spec, array, batch)
        )
    counts = {spec.name: _count(chosen[spec.name], spec, batch) for spec in inputs if spec.has_batch}
    several = {count for count in counts.values() if count > 1}
    if len(several) > 1:
        raise invalid(f"The samples' arrays hold different numbers of samples: {counts}.")
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
    return Samples(tuple(feeds), SampleSource.USER, 0, tuple(sorted(set(sizes))), count)


def _split(count: int, largest: int) -> list[int]:
    """Return batch sizes that cover `count` samples, with batches of 1, 2 and the largest among them."""
    wanted = sorted({1, min(2, largest), largest})
    rest = count - sum(wanted)
    if rest <= 0:
        return wanted if largest > 1 else [1] * count
    return [*wanted, *[largest] * (rest // largest), *([rest % largest] if rest % largest else [])]


def _rows(array: Array, spec: TensorSpec, indices: Array, batch: int) -> Array:
    if not spec.has_batch:
        return array
    held = array.shape[spec.batch_axis]
    step = held // _count(array, spec, batch)
    rows = indices if is_batched(spec, batch) else int(indices[0]) * step + np.arange(step)
    return np.ascontiguousarray(np.take(array, rows % held, spec.batch_axis))


def _count(array: Array, spec: TensorSpec, batch: int) -> int:
    """Return the number of samples in an array: its rows, or whole multiples of a fixed batch; 1 if that varies."""
    rows, (low, high) = int(array.shape[spec.batch_axis]), spec.batch_ends
    if is_batched(spec, batch):
        return rows
    return rows // high if low == high else 1


def _load(path: Path) -> dict[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise invalid("The samples are a single NPY array; an NPZ names each input. Save them with numpy.savez.")
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise invalid(f"The samples cannot be read as an NPZ of plain arrays: {error}") from error


def shapes_in(path: Path, component: str, names: Sequence[str], *, only: bool) -> dict[str, Shape]:
    """Return the shapes of a user's arrays by input, of those inputs that the NPZ has; arguments as of `from_npz`."""
    arrays = _load(path)
    found = {name: _find(arrays, component, name, bare=only) for name in names}
    return {name: array.shape for name, array in found.items() if array is not None}


def _find(arrays: Mapping[str, Array], component: str, name: str, *, bare: bool) -> Array | None:
    return next((arrays[key] for key in _keys(component, name, bare=bare) if key in arrays), None)


def _keys(component: str, name: str, *, bare: bool) -> list[str]:
    return [f"{component}/{name}", *([name] if bare else [])]


def _missing(arrays: Mapping[str, Array], component: str, name: str, *, bare: bool) -> EngineFailure:
    key, have = _keys(component, name, bare=bare)[-1], ", ".join(sorted(arrays)[:20]) or "none"
    return invalid(f"The samples hold no array '{key}' for the input '{name}'; they hold {have}.")


def _checked(spec: TensorSpec, array: Array, batch: int) -> Array:
    dtype = dtype_of(spec)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if (array.dtype.kind == "U") != (dtype.kind == "U"):
        raise invalid(f"The samples' array '{spec.name}' is {array.dtype}; the input takes {spec.dtype}.")
    if not np.can_cast(array.dtype, dtype, "same_kind") and not (dtype.kind == "f" and array.dtype.kind in "iu"):
        raise invalid(f"The samples' array '{spec.name}' is {array.dtype}; the input takes {dtype}.")
    shape = array.shape
    if not _fits(spec, shape, batch):
        wanted = " or ".join(map(format_shape, spec.members)) or format_extents(spec.min, spec.max)
        if spec.has_batch and not spec.members:
            extents = wanted.split("*")
            wanted = "*".join([*extents[: spec.batch_axis], "N", *extents[spec.batch_axis + 1 :]])
        raise invalid(
            f"The samples' array '{spec.name}' has the shape {format_shape(shape)}; the input takes {wanted}.",
            "Give samples of that shape, N of them along N; or declare the shape of the samples, in the template or in "
            "tensor information.",
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise invalid(f"The samples' array '{spec.name}' holds values that are not finite.")
    made = array.astype(dtype, copy=False)
    if dtype.kind in "iu" and not np.array_equal(made, array):
        raise invalid(f"The samples' array '{spec.name}' has values that {dtype} does not hold, which the input takes.")
    return np.ascontiguousarray(made).reshape(shape)


def _fits(spec: TensorSpec, shape: Shape, batch: int) -> bool:
    """Return whether an array of a shape holds samples of an input: any number of them along its batch axis."""
    if len(shape) != len(spec.max) or 0 in shape:
        return False
    counted = spec.batch_axis if spec.has_batch else -1
    ends = zip(shape, spec.min, spec.max, strict=True)
    if not all(low <= extent <= high for axis, (extent, low, high) in enumerate(ends) if axis != counted):
        return False
    if not spec.has_batch:
        return True
    if is_batched(spec, batch):
        return not spec.members or spec.at_batch(shape, 1) in spec.members
    rows, (low, high) = shape[counted], spec.batch_ends
    whole = low <= rows <= high if low != high else rows % low == 0
    return whole and (not spec.members or shape in spec.members)
