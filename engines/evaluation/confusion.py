"""The confusion matrix of a classification task, small enough to be looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.evaluation.report_figures import ConfusionMatrix
from engines.evaluation.scores import Cells

MOST_CLASSES = 100
"""Most rows; of more classes those are shown that are confused most often."""


def confusion_matrix(cells: Cells, names: Sequence[str]) -> ConfusionMatrix:
    """Return true classes by predicted ones; of many classes the rest is one row and one column."""
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
    place[-1] = -1  # what has no prediction keeps none
    fewer = Cells(place[cells.truth], place[cells.predicted], cells.in_top5, cells.counts)
    left_out = len(names) - len(shown)
    labels = (*(names[number] for number in shown), f"the other {left_out} classes")
    table = fewer.confusion(len(labels))
    return ConfusionMatrix(classes=labels, counts=_rows(table), left_out=left_out, not_predicted=lost)


def _rows(table: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(map(int, line)) for line in table)
