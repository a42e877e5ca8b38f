"""The protocol of comparisons: take one side's predictions, then compare them with another side's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.groups import Group
from engines.evaluation.predictions import SamplePrediction

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A metric of the reference and the other side, for the samples themselves and for the same draws of them."""

    name: str
    before: float
    after: float
    drawn_before: Floats
    drawn_after: Floats


class Side(Protocol):
    """The predictions of one evaluation for the shared samples."""

    def take(self, position: int, sample: SamplePrediction) -> None:
        """Add the sample at a position, from 0; each once, in any order."""
        ...

    def differences(self, reference: Self, group: Group, resamples: int, seed: int) -> Iterator[Difference]:
        """Yield every metric of both sides. Both use the same draws, so the difference is paired."""
        ...

    def agreement(self, reference: Self) -> Floats:
        """Return the agreement of both sides on each sample, 1 if they agree; NaN if undefined."""
        ...

    def losses(self, reference: Self) -> Floats:
        """Return how much worse each sample is than in the reference, in the metric's unit; NaN if unknown.

        Samples that count as regressions are over 0; better ones are 0 or less.
        """
        ...

    def severity(self, reference: Self) -> Floats:
        """Return the increase of the sample's own loss, which orders samples of equal loss."""
        ...

    def correct(self) -> Floats:
        """Return 1 for each right sample, 0 for each wrong one, NaN if the truth is unknown."""
        ...


def flag(value: bool | None) -> float:
    """Return a verdict as a number; NaN for None."""
    return np.nan if value is None else float(value)
