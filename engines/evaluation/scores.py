"""Figures of classifiers: accuracy, precision, recall and F1, for one set of counts or for many draws at once.

Definitions are scikit-learn's with `zero_division=0`: averages are over the classes that occur as truth or prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.report_figures import ConfusionMatrix

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

MOST_CLASSES = 100
"""Most rows of a confusion matrix; of more classes, the most confused are shown."""


@dataclass(frozen=True)
class Cells:
    """Samples of one task, with equal ones counted together.

    Attributes:
        truth: (cells,) number of the true class.
        predicted: (cells,) number of the predicted class; -1 for no prediction.
        in_top5: (cells,) whether the true class is among the five with the highest scores.
        counts: (cells,) number of samples.
    """

    truth: Integers
    predicted: Integers
    in_top5: NDArray[np.bool_]
    counts: Integers

    @classmethod
    def of(cls, truth: Integers, predicted: Integers, ranks: Integers) -> Self:
        """Count samples whose truth is known: those with `truth` of 0 or more."""
        rows = np.stack([truth, predicted, (ranks >= 0) & (ranks < 5)], axis=1)[truth >= 0]
        cells, counts = np.unique(rows, axis=0, return_counts=True)
        return cls(cells[:, 0], cells[:, 1], cells[:, 2].astype(bool), counts)

    def top1(self, weights: Floats) -> Floats:
        """Return the share of right predictions for each row of weights (draws, cells); NaN if it is empty."""
        return _ratio(weights[:, self.truth == self.predicted].sum(1), weights.sum(1), np.nan)

    def top5(self, weights: Floats) -> Floats:
        """Return the share of samples whose class is among the best five."""
        return _ratio(weights[:, self.in_top5].sum(1), weights.sum(1), np.nan)

    def by_class(self, weights: Floats, classes: int) -> ByClass:
        """Return the figures of each class for each row of weights."""
        right = self.truth == self.predicted
        return ByClass(
            _sums(weights, self.truth, classes, right),
            _sums(weights, self.truth, classes, self.truth >= 0),
            _sums(weights, self.predicted, classes, self.predicted >= 0),
        )

    def confusion(self, classes: int) -> Integers:
        """Return samples by true class (rows) and predicted class (columns)."""
        table = np.zeros((classes, classes), np.int64)
        known = self.predicted >= 0
        np.add.at(table, (self.truth[known], self.predicted[known]), self.counts[known])
        return table


@dataclass(frozen=True)
class ByClass:
    """Counts by draw and class: right predictions, true samples, predictions. All (draws, classes)."""

    right: Floats
    support: Floats
    predicted: Floats

    @property
    def precision(self) -> Floats:
        """Share of right predictions among all predictions of a class."""
        return _ratio(self.right, self.predicted, 0.0)

    @property
    def recall(self) -> Floats:
        """Share of right predictions among all samples of a class."""
        return _ratio(self.right, self.support, 0.0)

    @property
    def f1(self) -> Floats:
        """Harmonic mean of precision and recall."""
        return _ratio(2 * self.right, self.support + self.predicted, 0.0)

    def macro(self, figure: Floats) -> Floats:
        """Return the mean of a figure over the classes that occur in the draw."""
        occurs = (self.support + self.predicted) > 0
        return _ratio((figure * occurs).sum(1), occurs.sum(1).astype(np.float64), np.nan)

    def weighted(self, figure: Floats) -> Floats:
        """Return the mean of a figure over classes, weighted by their true samples."""
        return _ratio((figure * self.support).sum(1), self.support.sum(1), np.nan)


def _sums(weights: Floats, labels: Integers, classes: int, where: NDArray[np.bool_]) -> Floats:
    """Return the weights (draws, cells) summed by label: (draws, classes)."""
    sums = np.zeros((len(weights), classes))
    chosen = np.flatnonzero(where)
    if len(chosen):
        chosen = chosen[np.argsort(labels[chosen], kind="stable")]
        present, starts = np.unique(labels[chosen], return_index=True)
        sums[:, present] = np.add.reduceat(weights[:, chosen], starts, axis=1)
    return sums


def _ratio(part: Floats, whole: Floats, otherwise: float) -> Floats:
    ratio: Floats = np.divide(part, whole, out=np.full(np.shape(part), otherwise), where=whole > 0)
    return ratio


def confusion_matrix(cells: Cells, names: Sequence[str]) -> ConfusionMatrix:
    """Return the confusion matrix; of many classes, the least confused share one row and column."""
    lost = int(cells.counts[cells.predicted < 0].sum())
    if len(names) <= MOST_CLASSES:
        table = cells.confusion(len(names))
        return ConfusionMatrix(classes=tuple(names), counts=_rows(table), not_predicted=lost)
    wrong = (cells.truth != cells.predicted) & (cells.predicted >= 0)
    confused = np.bincount(cells.truth[wrong], cells.counts[wrong], len(names))
    confused += np.bincount(cells.predicted[wrong], cells.counts[wrong], len(names))
    shown = np.sort(np.argsort(-confused, kind="stable")[: MOST_CLASSES - 1])
    place = np.full(len(names) + 1, len(shown))
    place[shown] = np.arange(len(shown))
    place[-1] = -1  # samples without a prediction stay so
    fewer = Cells(place[cells.truth], place[cells.predicted], cells.in_top5, cells.counts)
    left_out = len(names) - len(shown)
    labels = (*(names[number] for number in shown), f"the other {left_out} classes")
    table = fewer.confusion(len(labels))
    return ConfusionMatrix(classes=labels, counts=_rows(table), left_out=left_out, not_predicted=lost)


def _rows(table: Integers) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, line)) for line in table)
