"""Samples of datasets and uploads as feeds of a package's inputs, for calibration and for judging forms."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engines.datasets.selection import Selection
from engines.evaluation.feeder import Batch, Feeder, steps_of
from engines.failures import EngineFailure, FailureReason
from engines.imaging import Steps
from engines.sandbox.deadline import check
from engines.tensors import Arrays
from engines.tensors.samples import MAX_FEED_BYTES, Samples, SampleSource, batch_sizes
from engines.tensors.signature import TensorSpec

CACHED_BYTES = 2**28
"""Feeds up to this size together are kept in memory, so that several quantizers do not decode images anew."""
MOST_HELD_OUT = 32


@dataclass(frozen=True)
class SampleSet:
    """Samples of a selection for one component.

    Attributes:
        selection: Images or tensors.
        component: The component as `manifest.json` has it.
        preprocessing: Steps for images, as `lathe.type.v1.PreprocessingStep`; the input's own if empty.
    """

    selection: Selection
    component: dict[str, Any]
    preprocessing: tuple[dict[str, Any], ...] = ()

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.selection.items)

    @property
    def steps(self) -> Steps | None:
        """Preprocessing of images; None for the input's own steps."""
        return steps_of(self.preprocessing, self.component) if self.preprocessing else None

    def feeds(self, numbers: Sequence[int], batch_size: int) -> Iterator[Arrays]:
        """Yield the named samples in batches.

        Raises:
            EngineFailure: INVALID_DATA or INVALID_SPEC naming the sample that cannot be read, does not fit the inputs
                or holds values that are not finite.
        """
        for batch in Feeder(self.selection, self.component, self.steps, batch_size, numbers).batches():
            _check_finite(batch)
            yield batch.feed


class Feeds:
    """Samples in batches, which can be gone through any number of times."""

    def __init__(self, samples: SampleSet, numbers: Sequence[int], batch_size: int) -> None:
        """Take the named samples, the last batch smaller if they do not fill it."""
        self._samples, self._numbers, self._batch_size = samples, numbers, batch_size
        self._kept: list[Arrays] | None = None
        self.count = len(numbers)

    def __len__(self) -> int:
        """Return the number of batches, if all samples have one shape."""
        return math.ceil(self.count / self._batch_size)

    def __iter__(self) -> Iterator[Arrays]:
        """Yield each batch.

        Raises:
            Overrun: The work has no time left: whatever goes through samples can end between two of them.
        """
        if self._kept is not None:
            for feed in self._kept:
                check()
                yield feed
            return
        kept: list[Arrays] = []
        size = 0
        for feed in self._samples.feeds(self._numbers, self._batch_size):
            check()
            size += sum(array.nbytes for array in feed.values())
            if size <= CACHED_BYTES:
                kept.append(feed)
            yield feed
        if size <= CACHED_BYTES:
            self._kept = kept


def _check_finite(batch: Batch) -> None:
    for name, array in batch.feed.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            broken = next(
                (s.item for s, row in zip(batch.samples, array, strict=False) if not np.isfinite(row).all()), None
            )
            where = f"{broken.path}, row {broken.row}" if broken else "A sample"
            raise EngineFailure(
                FailureReason.INVALID_DATA,
                f"{where}: the values for the input '{name}' are not all finite.",
                suggested_fix="Leave such samples out: ranges and parity measured on them are meaningless.",
            )


def calibration_batch(inputs: Sequence[TensorSpec], asked: int, available: int) -> int:
    """Return the batch size of calibration: as asked for, else 1 or the graph's own fixed batch.

    Raises:
        EngineFailure: INVALID_SPEC if the graph does not take it, INVALID_DATA if there are fewer samples.
    """
    low, high = batch_bounds(inputs)
    size = asked or low
    if not low <= size <= high:
        takes = f"batches of {low} alone" if low == high else f"batches of {low} to {high}"
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The calibration's batch size is {size}; the model takes {takes}.",
            suggested_fix=f"Set batch_size to {min(max(size, low), high)}, or the component's max_batch to {size}.",
        )
    if available < size:
        raise EngineFailure(
            FailureReason.INVALID_DATA,
            f"The calibration set has {available} samples, fewer than one batch of {size}.",
            suggested_fix="Give more samples, or a smaller batch size.",
        )
    return size


def batch_bounds(inputs: Sequence[TensorSpec]) -> tuple[int, int]:
    """Return the smallest and the largest batch that all inputs take; 1 and 1 if none has a batch axis."""
    ends = [spec.batch_ends for spec in inputs if spec.has_batch]
    return max((low for low, _ in ends), default=1), min((high for _, high in ends), default=1)


def chosen_and_rest(available: int, wanted: int, seed: int) -> tuple[list[int], list[int]]:
    """Return which samples calibrate, drawn with a seed if there are more than wanted, and some that are left."""
    if available <= wanted:
        return list(range(available)), []
    order = [int(number) for number in np.random.default_rng(seed).permutation(available)]
    return sorted(order[:wanted]), sorted(order[wanted : wanted + MOST_HELD_OUT])


def hold_out(chosen: list[int], batch_size: int) -> tuple[list[int], list[int]]:
    """Return samples that calibrate, at least one batch, and others that a form is judged on: every fifth, at most 32.

    The second list is empty if there are not enough for both.
    """
    count = min(MOST_HELD_OUT, len(chosen) // 5, len(chosen) - batch_size)
    if count <= 0:
        return chosen, []
    step = len(chosen) / count
    held = [chosen[int(position * step)] for position in range(count)]
    return [number for number in chosen if number not in set(held)], held


def judged_on(samples: SampleSet, numbers: Sequence[int], inputs: Sequence[TensorSpec], seed: int) -> Samples:
    """Return feeds to judge a form on: the samples in the smallest batch, and some of them in each larger one."""
    low, _ = batch_bounds(inputs)
    first = next(samples.feeds(numbers[:1], 1 if low == 1 else low))
    fitting = max(1, MAX_FEED_BYTES // max(1, sum(array.nbytes for array in first.values())))
    numbers = numbers[: fitting * low]
    feeds = list(samples.feeds(numbers, low))
    larger = [size for size in batch_sizes(inputs) if size > low]
    feeds += [next(samples.feeds([numbers[row % len(numbers)] for row in range(size)], size)) for size in larger]
    return Samples(tuple(feeds), SampleSource.USER, seed, (low, *larger), len(numbers))
