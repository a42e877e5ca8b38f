"""What every kind of evaluation does when it is compared: take a side's predictions, hold them against another's."""

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
    """A metric of the reference and of the other side, on the samples themselves and on the same draws of them."""

    name: str
    before: float
    after: float
    drawn_before: Floats
    drawn_after: Floats


class Side(Protocol):
    """The predictions of one evaluation for the shared samples."""

    def take(self, position: int, sample: SamplePrediction) -> None:
        """Take the sample at a position, from 0; in any order, each once."""
        ...

    def differences(self, reference: Self, group: Group, resamples: int, seed: int) -> Iterator[Difference]:
        """Yield every metric that both sides have. Draws are the same for both: the difference is paired."""
        ...

    def agreement(self, reference: Self) -> Floats:
        """Return for each sample how far both sides agree, 1 if they do; NaN if that is not defined."""
        ...

    def losses(self, reference: Self) -> Floats:
        """Return how much worse each sample is than in the reference, in the metric's unit; NaN if not known.

        Only samples that count as regressed are over 0; better ones are 0 or less.
        """
        ...

    def severity(self, reference: Self) -> Floats:
        """Return what orders samples of equal loss: the rise of the sample's own loss."""
        ...

    def correct(self) -> Floats:
        """Return 1 for each sample that is right, 0 for each that is wrong, NaN if nothing is known to be true."""
        ...


def flag(value: bool | None) -> float:
    """Return a verdict as a number: NaN if there is none."""
    return np.nan if value is None else float(value)
