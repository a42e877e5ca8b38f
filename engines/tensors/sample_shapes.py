"""The shapes that samples take: the batch, and the points of the other axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.tensors.shapes import Shape
from engines.tensors.signature import TensorSpec, shape_points


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


def stretched(array: NDArray[Any], shape: Shape) -> NDArray[Any]:
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
