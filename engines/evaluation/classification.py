"""Evaluates classifiers of one task or several."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.bootstrap import Floats, draws, generator, metrics
from engines.evaluation.collector import Collector, row
from engines.evaluation.feeder import Sample
from engines.evaluation.groups import Group
from engines.evaluation.predictions import SamplePrediction, TaskPrediction
from engines.evaluation.report import MetricValue
from engines.evaluation.report_figures import Averages, ClassFigures, ClassificationTask
from engines.evaluation.scores import ByClass, Cells, confusion_matrix
from engines.evaluation.truth import ClassTruth
from engines.failures import count

_LEAST_PROBABILITY = 1e-12
_SUM_TOLERANCE = 0.02
_TOP5 = 5
_COLUMNS = ("truth", "predicted", "rank")


class ClassificationCollector(Collector):
    """Collects scores of classes; see `Collector`."""

    def __init__(self, truth: ClassTruth) -> None:
        self._truth = truth
        self.classes = truth.classes
        self._columns = {task: {field: array("q") for field in _COLUMNS} for task in truth.classes}

    @property
    def main_metric(self) -> str:
        """`top1` if any sample has a known class, else empty."""
        return "top1" if self._judged() else ""

    def add(self, sample: Sample, prediction: Mapping[str, Any], *, finite: bool) -> SamplePrediction:
        """Add the scores of one sample."""
        known = self._truth.of(sample.item)
        answers = tuple(answer(task, prediction["tasks"][task], number) for task, number in known.items())
        for given in answers:
            for field in _COLUMNS:
                self._columns[given.task][field].append(getattr(given, field))
        judged = [given for given in answers if given.truth >= 0]
        if not judged:
            return row(sample, tasks=answers)
        loss = float(np.mean([given.loss for given in judged]))
        return row(sample, tasks=answers, loss=loss, correct=all(given.correct for given in judged))

    def metrics(self, groups: Sequence[Group], resamples: int, seed: int) -> list[MetricValue]:
        """Return accuracy and averages over classes, then the figures of every class."""
        judged = self._judged()
        found: list[MetricValue] = []
        for group in groups:
            for task in judged:
                found += self._of_task(task, group, resamples, seed, several=len(self.classes) > 1)
            if len(self.classes) > 1 and judged:
                found += self._over_tasks(judged, group, resamples, seed)
        return found

    def parts(self) -> dict[str, Any]:
        """Return the tables of each task."""
        return {"classification": tuple(self._table(task) for task in self._judged())}

    def warnings(self) -> list[str]:
        """Return warnings about what could not be evaluated."""
        lines = self._truth.warnings()
        for task in self._judged():
            present = set(self._columns[task]["truth"])
            absent = [name for number, name in enumerate(self.classes[task]) if number not in present]
            if absent:
                shown = ", ".join(absent[:10]) + (", …" if len(absent) > 10 else "")
                number = count(len(absent), f"class of the task '{task}' has", f"classes of the task '{task}' have")
                lines.append(f"{number} no sample: {shown}.")
        return lines

    def _judged(self) -> list[str]:
        return [task for task, columns in self._columns.items() if max(columns["truth"], default=-1) >= 0]

    def _column(self, task: str, field: str, group: Group | None = None) -> NDArray[np.int64]:
        values = np.array(self._columns[task][field], np.int64)
        return values if group is None else values[group.members]

    def _cells(self, task: str, group: Group | None = None) -> Cells:
        return Cells.of(*(self._column(task, field, group) for field in _COLUMNS))

    def _of_task(self, task: str, group: Group, resamples: int, seed: int, *, several: bool) -> Iterator[MetricValue]:
        cells, names = self._cells(task, group), self.classes[task]
        once = cells.counts[None].astype(np.float64)
        many = draws(cells.counts, resamples, generator(seed, f"{group.name}\0{task}"))
        label = task if several else ""
        values, drawn = (figures(cells, weights, names, label) for weights in (once, many))
        yield from metrics({name: figure[0] for name, figure in values.items()}, drawn, group.name)

    def _over_tasks(self, judged: list[str], group: Group, resamples: int, seed: int) -> Iterator[MetricValue]:
        """Yield the mean accuracy of the tasks; draws take whole samples, since their answers are not independent."""
        truths = np.stack([self._column(task, "truth", group) for task in judged], 1)
        ranks = np.stack([self._column(task, "rank", group) for task in judged], 1)
        known = truths >= 0
        right, close = (known & (ranks >= 0) & (ranks < best) for best in (1, _TOP5))
        patterns, counts = np.unique(np.concatenate([known, right, close], 1), axis=0, return_counts=True)
        once, many = counts[None].astype(np.float64), draws(counts, resamples, generator(seed, f"{group.name}\0"))
        values, drawn = {}, {}
        wide = any(len(self.classes[task]) > _TOP5 for task in judged)
        for place, name in enumerate(("top1", "top5") if wide else ("top1",), start=1):
            values[name], drawn[name] = (mean_part(patterns, weights, len(judged), place) for weights in (once, many))
        yield from metrics({name: figure[0] for name, figure in values.items()}, drawn, group.name)

    def _table(self, task: str) -> ClassificationTask:
        cells, names = self._cells(task), self.classes[task]
        once = cells.counts[None].astype(np.float64)
        by = cells.by_class(once, len(names))
        columns = (by.precision[0], by.recall[0], by.f1[0], by.support[0], by.predicted[0])
        rows = zip(names, *columns, strict=True)
        return ClassificationTask(
            task=task,
            samples=int(cells.counts.sum()),
            top1=float(cells.top1(once)[0]),
            top5=float(cells.top5(once)[0]) if len(names) > _TOP5 else None,
            macro=_averages(by, by.macro),
            weighted=_averages(by, by.weighted),
            classes=tuple(
                ClassFigures(name=name, precision=p, recall=r, f1=f, support=int(support), predicted=int(predicted))
                for name, p, r, f, support, predicted in rows
            ),
            confusion=confusion_matrix(cells, names),
        )


def answer(task: str, scores: Floats, truth: int) -> TaskPrediction:
    """Return the prediction for scores of classes, which are logits or probabilities.

    Of equal scores, the class with the lower number wins. Scores that are not finite predict nothing.
    """
    if not np.isfinite(scores).all():
        loss = -np.log(_LEAST_PROBABILITY) if truth >= 0 else 0.0
        return TaskPrediction(task, truth, -1, 0.0, 0.0, -1, float(loss))
    chances = probabilities(scores)
    best = int(scores.argmax())
    if truth < 0:
        return TaskPrediction(task, -1, best, float(chances[best]), 0.0, -1, 0.0)
    before = (scores > scores[truth]).sum() + (scores[:truth] == scores[truth]).sum()
    loss = -np.log(max(chances[truth], _LEAST_PROBABILITY))
    return TaskPrediction(task, truth, best, float(chances[best]), float(chances[truth]), int(before), float(loss))


def probabilities(scores: Floats) -> Floats:
    """Return the scores if they are probabilities (not negative, with the sum 1), else their softmax."""
    if scores.min() >= 0 and abs(scores.sum() - 1) <= _SUM_TOLERANCE:
        return scores
    powers = np.exp(scores - scores.max())
    chances: Floats = powers / powers.sum()
    return chances


def figures(cells: Cells, weights: Floats, names: Sequence[str], task: str = "") -> dict[str, Floats]:
    """Return every figure of a task by name, each (weightings,).

    Args:
        cells: The samples.
        weights: (weightings, cells).
        names: Names of the classes.
        task: Name of the task if the model has several; it then becomes part of the figures' names.
    """
    suffix, prefix = (f"/{task}", f"{task}:") if task else ("", "")
    by = cells.by_class(weights, len(names))
    found = {f"top1{suffix}": cells.top1(weights)}
    if len(names) > _TOP5:
        found[f"top5{suffix}"] = cells.top5(weights)
    kinds = {"precision": by.precision, "recall": by.recall, "f1": by.f1}
    found |= {f"macro_{kind}{suffix}": by.macro(figure) for kind, figure in kinds.items()}
    found |= {f"weighted_{kind}{suffix}": by.weighted(figure) for kind, figure in kinds.items()}
    for number in np.unique(cells.truth):
        found |= {f"{kind}/{prefix}{names[number]}": figure[:, number] for kind, figure in kinds.items()}
    return found


def mean_part(patterns: NDArray[np.bool_], weights: Floats, tasks: int, place: int) -> Floats:
    """Return the mean over tasks of the weighted share of known answers that are marked in the columns of a place."""
    known = weights @ patterns[:, :tasks]
    marked = weights @ patterns[:, place * tasks : (place + 1) * tasks]
    parts = np.divide(marked, known, out=np.full(known.shape, np.nan), where=known > 0)
    count = np.isfinite(parts).sum(1)
    mean: Floats = np.divide(np.nansum(parts, 1), count, out=np.full(len(parts), np.nan), where=count > 0)
    return mean


def _averages(by: ByClass, average: Any) -> Averages:
    return Averages(
        precision=float(average(by.precision)[0]), recall=float(average(by.recall)[0]), f1=float(average(by.f1)[0])
    )
