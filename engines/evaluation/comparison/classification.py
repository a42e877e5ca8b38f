"""Compares classifiers of one task or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.bootstrap import draws, generator
from engines.evaluation.classification import figures, mean_part
from engines.evaluation.comparison.side import Difference, Floats, flag
from engines.evaluation.groups import Group
from engines.evaluation.predictions import SamplePrediction
from engines.evaluation.scores import Cells

_TOP5 = 5
_ABSENT = -2

Integers = NDArray[np.int32]


class ClassificationSide:
    """One side of a comparison of classifiers; see `Side`. Both sides have the same tasks and classes."""

    def __init__(self, samples: int, classes: Mapping[str, tuple[str, ...]]) -> None:
        self._classes = classes
        self._truth = {task: np.full(samples, -1, np.int32) for task in classes}
        self._predicted = {task: np.full(samples, _ABSENT, np.int32) for task in classes}
        self._rank = {task: np.full(samples, -1, np.int32) for task in classes}
        self._loss = np.full(samples, np.nan)
        self._correct = np.full(samples, np.nan)

    def take(self, position: int, sample: SamplePrediction) -> None:
        """Add the answers of one sample."""
        for given in sample.tasks:
            if given.task in self._classes:
                self._truth[given.task][position] = given.truth
                self._predicted[given.task][position] = given.predicted
                self._rank[given.task][position] = given.rank
        self._loss[position] = np.nan if sample.loss is None else sample.loss
        self._correct[position] = flag(sample.correct)

    def differences(
        self, reference: ClassificationSide, group: Group, resamples: int, seed: int
    ) -> Iterator[Difference]:
        """Yield the figures of each task, and of all tasks together if there are several."""
        judged = [task for task in self._classes if (self._known(reference, task)[group.members]).any()]
        for task in judged:
            yield from self._of_task(reference, task, group, resamples, seed)
        if len(self._classes) > 1 and judged:
            yield from self._over_tasks(reference, judged, group, resamples, seed)

    def agreement(self, reference: ClassificationSide) -> Floats:
        """Return 1 if both predict the same class in every task."""
        same = [self._predicted[task] == reference._predicted[task] for task in self._classes]
        everywhere: Floats = np.all(same, axis=0).astype(np.float64)
        return everywhere

    def losses(self, reference: ClassificationSide) -> Floats:
        """Return the share of tasks that are right in the reference and wrong here, minus the reverse."""
        known = np.stack([self._known(reference, task) for task in self._classes])
        before, after = (
            np.stack([side._truth[task] == side._predicted[task] for task in self._classes]) & known
            for side in (reference, self)
        )
        count = known.sum(0)
        lost = before.sum(0) - after.sum(0).astype(np.float64)
        part: Floats = np.divide(lost, count, out=np.full(len(count), np.nan), where=count > 0)
        return part

    def severity(self, reference: ClassificationSide) -> Floats:
        """Return the increase of the cross-entropy."""
        rise: Floats = self._loss - reference._loss
        return rise

    def correct(self) -> Floats:
        """Return whether every evaluated task is right."""
        return self._correct

    def _known(self, reference: ClassificationSide, task: str) -> NDArray[np.bool_]:
        """Return the samples whose class is known and the same on both sides."""
        known: NDArray[np.bool_] = (self._truth[task] >= 0) & (self._truth[task] == reference._truth[task])
        return known

    def _of_task(
        self, reference: ClassificationSide, task: str, group: Group, resamples: int, seed: int
    ) -> Iterator[Difference]:
        """Yield the figures of a task. Samples with the same truth and the same two predictions are drawn together."""
        chosen = group.members[self._known(reference, task)[group.members]]
        columns: list[NDArray[Any]] = [self._truth[task][chosen]]
        for side in (reference, self):
            rank = side._rank[task][chosen]
            columns += [side._predicted[task][chosen], (rank >= 0) & (rank < _TOP5)]
        cells, counts = np.unique(np.stack(columns, 1).astype(np.int64), axis=0, return_counts=True)
        sides = [Cells(cells[:, 0], cells[:, place], cells[:, place + 1].astype(bool), counts) for place in (1, 3)]
        once = counts[None].astype(np.float64)
        many = draws(counts, resamples, generator(seed, f"{group.name}\0{task}"))
        label = task if len(self._classes) > 1 else ""
        values = [[figures(side, weights, self._classes[task], label) for weights in (once, many)] for side in sides]
        (before, drawn_before), (after, drawn_after) = values
        for name, figure in before.items():
            yield Difference(name, float(figure[0]), float(after[name][0]), drawn_before[name], drawn_after[name])

    def _over_tasks(
        self, reference: ClassificationSide, judged: list[str], group: Group, resamples: int, seed: int
    ) -> Iterator[Difference]:
        """Yield the mean accuracy of the tasks; draws take whole samples."""
        known = np.stack([self._known(reference, task)[group.members] for task in judged], 1)
        ranks = [np.stack([side._rank[task][group.members] for task in judged], 1) for side in (reference, self)]
        hits = [known & (rank >= 0) & (rank < best) for rank in ranks for best in (1, _TOP5)]
        patterns, counts = np.unique(np.concatenate([known, *hits], 1), axis=0, return_counts=True)
        once, many = counts[None].astype(np.float64), draws(counts, resamples, generator(seed, f"{group.name}\0"))
        wide = any(len(self._classes[task]) > _TOP5 for task in judged)
        for place, name in enumerate(("top1", "top5") if wide else ("top1",), start=1):
            before, drawn_before = (mean_part(patterns, weights, len(judged), place) for weights in (once, many))
            after, drawn_after = (mean_part(patterns, weights, len(judged), place + 2) for weights in (once, many))
            yield Difference(name, float(before[0]), float(after[0]), drawn_before, drawn_after)
