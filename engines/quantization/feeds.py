"""What calibration and the gate run on: samples of datasets and uploads, as feeds of a package's inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engines.backends.base import Arrays
from engines.datasets.selection import Selection
from engines.failures import EngineFailure, FailureReason
from engines.imaging import Steps, as_input, steps_for
from engines.samples import MAX_FEED_BYTES, USER_PROVIDED, Samples, batch_sizes
from engines.signature import TensorSpec

CACHED_BYTES = 2**28
"""Feeds up to this size together are kept in memory, so that several quantizers do not decode images anew."""
MOST_HELD_OUT = 32


@dataclass(frozen=True)
class SampleSet:
    """Single samples: every input by name, without batch axis.

    Attributes:
        count: Number of samples.
        read: Returns one of them.
    """

    count: int
    read: Callable[[int], Arrays]

    def batch(self, numbers: Sequence[int]) -> Arrays:
        """Return some samples as one feed."""
        rows = [self.read(number) for number in numbers]
        return {name: np.ascontiguousarray(np.stack([row[name] for row in rows])) for name in rows[0]}


class Feeds:
    """Samples in batches, which can be gone through any number of times."""

    def __init__(self, samples: SampleSet, numbers: Sequence[int], batch_size: int) -> None:
        """Take the named samples, the last batch smaller where they do not fill it."""
        self._samples = samples
        self._batches = [numbers[start : start + batch_size] for start in range(0, len(numbers), batch_size)]
        self._kept: list[Arrays] = []
        self._keeps = True
        self.batch_size = batch_size
        self.count = len(numbers)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Arrays]:
        """Yield each batch."""
        for position, numbers in enumerate(self._batches):
            if position < len(self._kept):
                yield self._kept[position]
                continue
            feed = self._samples.batch(numbers)
            if self._keeps and len(self._kept) == position:
                self._kept.append(feed)
                size = sum(array.nbytes for array in feed.values())
                self._keeps = size * (position + 2) <= CACHED_BYTES
            yield feed


def sample_set(
    selection: Selection, inputs: Sequence[TensorSpec], preprocessing: Sequence[dict[str, object]], color: str
) -> SampleSet:
    """Return the samples of a selection, brought to the inputs and checked as they are read.

    Args:
        selection: Images, or tensors with an array for each input.
        inputs: Inputs of the package.
        preprocessing: Steps for images, as `lathe.type.v1.PreprocessingStep`; those that the input asks for where empty.
        color: `RGB` or `BGR`: what the package takes, where no steps say it.

    Raises:
        EngineFailure: INVALID_SPEC where images meet a model that does not take one image. Reading raises INVALID_DATA
            or INVALID_SPEC that names the sample.
    """
    items, specs = selection.items, {spec.name: spec.to_dict() for spec in inputs}
    if selection.is_tensors:
        return SampleSet(len(items), lambda number: _tensors(selection, number, specs))
    if len(inputs) != 1:
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The data holds images, and the model takes {len(inputs)} inputs: {', '.join(specs)}.",
            suggested_fix="Use a dataset or an NPZ of tensors, with an array for each input.",
        )
    tensor = specs[inputs[0].name]
    steps = (
        Steps.parse(preprocessing, tensor) if preprocessing else steps_for(tensor, "BGR" if color == "BGR" else "RGB")
    )

    def read(number: int) -> Arrays:
        image = steps.apply(selection.image(items[number]))
        return {inputs[0].name: _named(items[number].path, lambda: as_input(image, tensor))}

    return SampleSet(len(items), read)


def _tensors(selection: Selection, number: int, specs: dict[str, dict[str, object]]) -> Arrays:
    item = selection.items[number]
    given = selection.tensors(item)
    missing = specs.keys() - given.keys()
    if missing:
        raise EngineFailure(
            FailureReason.INVALID_DATA,
            f"{item.path} holds no array '{min(missing)}' for the model's input of that name; it holds "
            f"{', '.join(given) or 'none'}.",
            suggested_fix="Name the arrays like the inputs.",
        )
    row = {name: _named(item.path, lambda name=name: as_input(given[name], specs[name])) for name in specs}  # type: ignore[misc]
    for name, array in row.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise EngineFailure(
                FailureReason.INVALID_DATA,
                f"{item.path}, row {item.row}: the array '{name}' holds values that are not finite.",
                suggested_fix="Leave such samples out: ranges and parity found on them mean nothing.",
            )
    return row


def _named(path: str, action: Callable[[], np.ndarray]) -> np.ndarray:  # type: ignore[type-arg]
    try:
        return action()
    except EngineFailure as failure:
        failure.message = f"{path}: {failure.message}"
        raise


def calibration_batch(inputs: Sequence[TensorSpec], asked: int, available: int) -> int:
    """Return the batch size of calibration: what was asked for, 1 or the graph's own fixed batch where nothing was.

    Raises:
        EngineFailure: INVALID_SPEC where the graph does not take it, INVALID_DATA where there are fewer samples.
    """
    low, high = batch_bounds(inputs)
    size = asked or low
    if not low <= size <= high:
        takes = f"batches of {low} alone" if low == high else f"batches of {low} to {high}"
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The calibration's batch size is {size}; the model takes {takes}.",
            suggested_fix=f"Set batch_size to {high if size > high else low}, or the component's max_batch to {size}.",
        )
    if available < size:
        raise EngineFailure(
            FailureReason.INVALID_DATA,
            f"The calibration set has {available} samples, fewer than one batch of {size}.",
            suggested_fix="Give more samples, or a smaller batch size.",
        )
    return size


def batch_bounds(inputs: Sequence[TensorSpec]) -> tuple[int, int]:
    """Return the smallest and the largest batch that all inputs take; 1 and 1 where none has a batch axis."""
    sized = [spec for spec in inputs if spec.max]
    if not sized:
        return 1, 1
    return max(spec.min[0] for spec in sized), min(spec.max[0] for spec in sized)


def chosen_and_rest(available: int, wanted: int, seed: int) -> tuple[list[int], list[int]]:
    """Return which samples calibrate, drawn with a seed where there are more than wanted, and those that are left."""
    if available <= wanted:
        return list(range(available)), []
    order = np.random.default_rng(seed).permutation(available)
    return sorted(map(int, order[:wanted])), sorted(map(int, order[wanted : wanted + MOST_HELD_OUT]))


def hold_out(chosen: list[int], batch_size: int) -> tuple[list[int], list[int]]:
    """Return samples that calibrate, at least one batch, and others that a form is judged on: every fifth, at most 32.

    The second list is empty where there are not enough for both.
    """
    count = min(MOST_HELD_OUT, len(chosen) // 5, len(chosen) - batch_size)
    if count <= 0:
        return chosen, []
    step = len(chosen) / count
    held = {chosen[int(position * step)] for position in range(count)}
    return [number for number in chosen if number not in held], sorted(held)


def judged_on(samples: SampleSet, numbers: Sequence[int], inputs: Sequence[TensorSpec], seed: int) -> Samples:
    """Return feeds to judge a form on: the samples one by one, and some of them in each larger batch."""
    low, _ = batch_bounds(inputs)
    first = samples.batch([numbers[0]] * low)
    fitting = max(1, MAX_FEED_BYTES // max(1, sum(array.nbytes for array in first.values())))
    numbers = numbers[: fitting * low]
    singles = [_cycled(numbers, start, low) for start in range(0, len(numbers), low)]
    larger = [size for size in batch_sizes(inputs) if size > low]
    groups = [*singles, *(_cycled(numbers, 0, size) for size in larger)]
    feeds = tuple(samples.batch(group) for group in groups)
    return Samples(feeds, USER_PROVIDED, seed, (low, *larger), len(numbers))


def _cycled(numbers: Sequence[int], start: int, count: int) -> list[int]:
    return [numbers[(start + position) % len(numbers)] for position in range(count)]
