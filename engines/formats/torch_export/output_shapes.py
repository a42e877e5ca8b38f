"""The shapes that a network's outputs take, from what it returned at the shapes that were tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engines.formats.torch_export.export_job import ExportJob, Observed, Point
from engines.tensors.shapes import OPEN_EXTENT
from engines.tensors.signature import TensorSpec


def output_specs(job: ExportJob, observed: Mapping[Point, Observed], names: Sequence[str]) -> tuple[TensorSpec, ...]:
    """Return the outputs' specs: from the smallest to the largest that was seen, and at the largest batch."""
    tuned_batch = min(next((spec.opt[spec.batch_axis] for spec in job.inputs if spec.has_batch), 1), job.max_batch)
    seen = [observed[point].shapes for point in job.checked]
    pairs = zip(observed[job.traced_alone].shapes, observed[job.traced].shapes, strict=True)
    specs = []
    for index, (name, dtype, (one, two)) in enumerate(zip(names, observed[job.traced].dtypes, pairs, strict=True)):
        shapes = [shapes[index] for shapes in seen]
        if any(len(shape) != len(two) or 0 in shape for shape in (*shapes, one, two)):
            specs.append(TensorSpec.unknown(name, dtype))
            continue
        tuned = tuple(map(_at_batch, shapes[0], one, two, [tuned_batch] * len(one)))
        least = tuple(map(min, zip(tuned, *shapes, strict=True)))
        largest = tuple(map(max, zip(*shapes, strict=True)))
        most = tuple(map(_at_batch, largest, one, two, [job.max_batch] * len(one)))
        specs.append(TensorSpec(name, dtype, least, tuple(map(min, tuned, most)), most))
    return tuple(specs)


def _at_batch(extent: int, one: int, two: int, batch: int) -> int:
    """Return an axis' extent at a batch from that at 1, and from how another grew from batch 1 to 2.

    It is a multiple of the batch, or grows evenly; where it shrinks no bound is known.
    """
    if two < one:
        return extent if batch == 1 else OPEN_EXTENT
    if two == 2 * one:
        return min(extent * batch, OPEN_EXTENT)
    return min(extent + (two - one) * (batch - 1), OPEN_EXTENT)
