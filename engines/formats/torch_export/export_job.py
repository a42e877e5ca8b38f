"""The job of exporting a network: the shapes at which its graph is traced and checked, and what the network returns."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from engines.failures import EngineFailure, FailureReason
from engines.formats.torch_export.forward import ANY_BATCH, call_forward, flatten_outputs
from engines.runtimes.torch_networks.state import kept_state
from engines.tensors.samples import stretched
from engines.tensors.shapes import OPEN_EXTENT, Shape, format_shape
from engines.tensors.signature import TensorSpec, shape_points

if TYPE_CHECKING:
    import torch

_PLAIN = (tuple, list, dict, OrderedDict)
_ANY_SHAPE = "Take extents from the inputs (x.shape[2], -1 in reshape), or narrow the range of shapes."

Point = tuple[Shape, ...]
"""One shape per input."""


@dataclass(frozen=True)
class ExportJob:
    """An export.

    Attributes:
        network: The network, in evaluation mode.
        inputs: Specs for one sample, in the order of `forward`.
        samples: One array per input, of any extents.
        output_names: Names of the outputs, in flat order.
        max_batch: Largest batch; the batch stays as the specs say if it is 1.
        path: Where the ONNX file goes.
        architecture: The file that the network was built by, for the line that an error names.
    """

    network: torch.nn.Module
    inputs: Sequence[TensorSpec]
    samples: Sequence[NDArray[Any]]
    output_names: Sequence[str]
    max_batch: int
    path: Path
    architecture: Path | None = None

    def at(self, point: Point) -> list[NDArray[Any]]:
        """Return the samples, repeated or cut to the shapes of a point."""
        return [stretched(value, shape) for value, shape in zip(self.samples, point, strict=True)]

    @property
    def dynamic_axes(self) -> list[dict[int, tuple[int, int]]]:
        """Axes of each input that vary, with both ends; without a batch that varies."""
        return [
            {
                axis: (spec.min[axis], spec.max[axis])
                for axis in spec.dynamic_axes
                if axis != spec.batch_axis or self.max_batch == 1
            }
            for spec in self.inputs
        ]

    @property
    def checked(self) -> tuple[Point, ...]:
        """Points at which the graph is tried, those of the tuned shapes first; at a batch of 1 if it is dynamic."""
        points = shape_points(self.inputs)
        return tuple(self._at_batch(point, 1) for point in points) if self.max_batch > 1 else points

    @property
    def traced(self) -> Point:
        """Point to trace at: a batch of 2 if it is dynamic, and no extent of 1 that may vary, as exporters take 1
        for a constant.
        """
        return self._at_batch(self._traceable, 2) if self.max_batch > 1 else self._traceable

    @property
    def traced_alone(self) -> Point:
        """The traced point, at a batch of 1 if the batch is dynamic."""
        return self._at_batch(self._traceable, 1) if self.max_batch > 1 else self._traceable

    @property
    def tried(self) -> tuple[Point, ...]:
        """Points at which the network is run before it is exported."""
        return tuple(dict.fromkeys((*self.checked, self.traced_alone, self.traced)))

    @property
    def _traceable(self) -> Point:
        def is_traceable(point: Point) -> bool:
            return all(shape[axis] > 1 for shape, axes in zip(point, self.dynamic_axes, strict=True) for axis in axes)

        points = shape_points(self.inputs)
        return next((point for point in points if is_traceable(point)), points[-1])

    def _at_batch(self, point: Point, batch: int) -> Point:
        return tuple(spec.at_batch(shape, batch) for spec, shape in zip(self.inputs, point, strict=True))

    def describe(self, point: Point) -> str:
        """Return a point in words: the batch, or the shapes if these may vary."""
        if any(self.dynamic_axes):
            return f"at {', '.join(map(format_shape, point))}"
        counted = (shape[spec.batch_axis] for spec, shape in zip(self.inputs, point, strict=True) if spec.has_batch)
        return f"at batch {next(counted, 1)}"


@dataclass(frozen=True)
class Observed:
    """The outputs of a network at one point.

    Attributes:
        shapes: Shape of each output.
        dtypes: Element type of each output, as NumPy writes it, and `bfloat16`.
        plain: Whether they came in tuples, lists and dictionaries alone, none of them complex, which exporters
            understand as they are.
    """

    shapes: tuple[Shape, ...]
    dtypes: tuple[str, ...]
    plain: bool


def observe(job: ExportJob) -> dict[Point, Observed]:
    """Run the network at each point of `tried`.

    Raises:
        EngineFailure: SHAPE_MISMATCH or INVALID_ARCHITECTURE, with the point and the module in which it raised.
    """
    observed: dict[Point, Observed] = {}
    for point in job.tried:
        observed[point] = _observe(job, point, first=not observed)
    return observed


def _observe(job: ExportJob, point: Point, *, first: bool) -> Observed:
    try:
        with kept_state(job.network):
            result = call_forward(job.network, job.at(point), job.architecture)
    except EngineFailure as failure:
        failure.evidence = f"{job.describe(point)}, {failure.evidence}"
        if not first and failure.reason is FailureReason.SHAPE_MISMATCH:
            failure.suggested_fix = _ANY_SHAPE if point in job.checked else ANY_BATCH
        raise
    outputs = flatten_outputs(result)
    dtypes = (str(output.dtype).removeprefix("torch.") for output in outputs)
    return Observed(tuple(tuple(output.shape) for output in outputs), tuple(dtypes), _plain(result))


def _plain(value: Any) -> bool:
    import torch

    if type(value) in _PLAIN:
        return all(map(_plain, value.values() if isinstance(value, dict) else value))
    return isinstance(value, torch.Tensor) and not value.is_complex()


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

    It is a multiple of the batch, or grows evenly; if it shrinks, no bound is known.
    """
    if two < one:
        return extent if batch == 1 else OPEN_EXTENT
    if two == 2 * one:
        return min(extent * batch, OPEN_EXTENT)
    return min(extent + (two - one) * (batch - 1), OPEN_EXTENT)
