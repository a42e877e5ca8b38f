"""The feeds of a component at the batch sizes that are measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engines.failures import InvalidField
from engines.tensors import Arrays
from engines.tensors.samples import SampleRange, Samples, SampleSource, one_feed, stretched
from engines.tensors.shapes import Shape
from engines.tensors.signature import TensorSpec
from engines.tensors.user_samples import from_npz


@dataclass(frozen=True)
class Feeds:
    """Makes a feed of each batch size.

    Attributes:
        component: Name of the component, for refusals.
        inputs: Its inputs.
        ranges: Values that random inputs take, by input.
        seed: Seed of random inputs.
        given: The user's samples; None for random ones.
    """

    component: str
    inputs: Sequence[TensorSpec]
    ranges: Mapping[str, SampleRange]
    seed: int
    given: Samples | None = None

    @property
    def source(self) -> SampleSource:
        """Where the values come from."""
        return self.given.source if self.given else SampleSource.GENERATED

    @property
    def usual_batch(self) -> int:
        """The batch that the component is tuned for."""
        batched = [spec for spec in self.inputs if spec.has_batch]
        varying = [spec for spec in batched if _varies(spec)]
        return next((spec.opt[spec.batch_axis] for spec in (*varying, *batched)), 1)

    def check(self, batch: int) -> None:
        """Refuse a batch that the component does not take; InvalidField INVALID_SPEC with those that it does."""
        varying = [spec for spec in self.inputs if _varies(spec)]
        low = max((spec.batch_ends[0] for spec in varying), default=self.usual_batch)
        high = min((spec.batch_ends[1] for spec in varying), default=self.usual_batch)
        if not low <= batch <= high:
            takes = f"batches of {low}" if low == high else f"batches of {low} to {high}"
            raise InvalidField(
                "batch_sizes", f"'{self.component}' takes {takes}, not {batch}", "Leave it out, or choose one of these."
            )

    def at(self, batch: int) -> Arrays:
        """Return the feed of a batch: every input by name."""
        if self.given is None:
            shapes = [_shape(spec, spec.opt, batch) for spec in self.inputs]
            return one_feed(self.inputs, self.ranges, self.seed, shapes)
        feed = self.given.feeds[0]
        return {
            spec.name: stretched(feed[spec.name], _shape(spec, feed[spec.name].shape, batch)) for spec in self.inputs
        }


def user_samples(
    path: Path, component: str, inputs: Sequence[TensorSpec], ranges: Mapping[str, SampleRange], *, first: bool
) -> Samples | None:
    """Return a user's samples of a component; None if there is no file.

    Raises:
        EngineFailure: INVALID_SPEC for arrays that do not fit the inputs.
    """
    return from_npz(path, component, inputs, ranges, only=first) if path.is_file() else None


def _shape(spec: TensorSpec, shape: Shape, batch: int) -> Shape:
    return spec.at_batch(shape, batch) if _varies(spec) else shape


def _varies(spec: TensorSpec) -> bool:
    return spec.has_batch and spec.batch_ends[0] != spec.batch_ends[1]
