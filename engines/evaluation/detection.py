"""Evaluates detectors with COCO's figures, over all data, per slice and per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engines.evaluation.bootstrap import Floats, draws, generator, metrics
from engines.evaluation.box_matches import AREAS, COCO_THRESHOLDS, ClassMatches, Matcher
from engines.evaluation.collector import Collector, row
from engines.evaluation.detection_tables import detection_figures
from engines.evaluation.feeder import Sample
from engines.evaluation.groups import Group
from engines.evaluation.precision_recall import average_precision, average_recall
from engines.evaluation.predictions import DetectedBox, SamplePrediction, TrueBox
from engines.evaluation.report import MetricValue
from engines.evaluation.truth import BoxTruth
from engines.failures import count

_RANKS = (1, 10, 100)
_WORK = 800_000_000
_LEAST_RESAMPLES = 50


def thresholds(asked: Sequence[float]) -> tuple[float, ...]:
    """Return COCO's thresholds and the requested ones in ascending order."""
    extra = [value for value in asked if not any(abs(value - known) < 1e-9 for known in COCO_THRESHOLDS)]
    return tuple(sorted({*COCO_THRESHOLDS, *extra}))


class DetectionCollector(Collector):
    """Collects boxes; see `Collector`.

    Args:
        classes: Names of the classes by the one task.
        annotated: True if the data has true boxes.
        asked: Thresholds of intersection over union that have figures of their own.
    """

    def __init__(self, classes: Mapping[str, tuple[str, ...]], *, annotated: bool, asked: Sequence[float]) -> None:
        self.classes = classes
        self._names = next(iter(classes.values()))
        self._truth = BoxTruth(self._names)
        self._annotated = annotated
        self._asked = tuple(dict.fromkeys((0.5, 0.75, *asked)))
        self._matcher = Matcher(thresholds(asked))
        self._labels_out: set[int] = set()
        self._dropped = 0
        self._boxes: list[TrueBox] = []
        self._detections = np.zeros(len(self._names), np.int64)
        self._fewer = 0

    @property
    def main_metric(self) -> str:
        """`map` if the data has boxes of the model's classes, else empty."""
        return "map" if self._labels() else ""

    def add(self, sample: Sample, prediction: Mapping[str, Any], *, finite: bool) -> SamplePrediction:
        """Add the boxes of one sample, converted to the image's pixels."""
        found = self._found(sample, prediction)
        if not self._annotated:
            return row(sample, detections=found)
        truths = self._truth.of(sample.item)
        self._boxes += truths
        result = self._matcher.add(truths, found)
        return row(sample, detections=found, truths=truths, loss=result.loss, correct=result.correct)

    def metrics(self, groups: Sequence[Group], resamples: int, seed: int) -> list[MetricValue]:
        """Return COCO's figures and those of each class, for each group."""
        if not self.main_metric:
            return []
        matches = self._matches()
        affordable = affordable_draws(matches, len(self._matcher.thresholds), groups)
        self._fewer = affordable if affordable < resamples else 0
        found: list[MetricValue] = []
        for group in groups:
            found += self._of_group(matches, group, min(resamples, affordable), seed)
        return found

    def parts(self) -> dict[str, Any]:
        """Return the tables of classes and the precision-recall curves."""
        if not self.main_metric:
            return {}
        figures = detection_figures(
            self._matches(), self._names, self._matcher, self._asked, boxes=self._boxes, detections=self._detections
        )
        return {"detection": figures}

    def warnings(self) -> list[str]:
        """Return warnings about what could not be evaluated."""
        lines = self._truth.warnings()
        if self._dropped:
            labels = ", ".join(map(str, sorted(self._labels_out)[:10]))
            lines.append(
                f"{self._dropped} predicted boxes were left out, because their labels are not among the "
                f"{len(self._names)} classes: {labels}. If label 0 is the background, set the argument "
                "label_offset to 1."
            )
        if self._fewer:
            lines.append(f"Intervals use only {self._fewer} draws, because there are many predicted boxes.")
        present = self._labels()
        absent = [name for number, name in enumerate(self._names) if number not in present]
        if absent and present:
            shown = ", ".join(absent[:10]) + (", …" if len(absent) > 10 else "")
            lines.append(f"{count(len(absent), 'class has', 'classes have')} no box: {shown}.")
        return lines

    def _found(self, sample: Sample, prediction: Mapping[str, Any]) -> tuple[DetectedBox, ...]:
        labels = prediction["labels"]
        known = (labels >= 0) & (labels < len(self._names))
        self._dropped += int((~known).sum())
        if len(self._labels_out) < 1000:
            self._labels_out |= set(labels[~known].tolist())
        boxes = prediction["boxes"][known]
        if sample.geometry is not None:
            boxes = sample.geometry.to_image(boxes)
        sizes = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
        np.add.at(self._detections, labels[known], 1)
        columns = labels[known].tolist(), prediction["scores"][known].tolist(), boxes.tolist(), sizes.tolist()
        return tuple(DetectedBox(label, score, *at[:2], *size) for label, score, at, size in zip(*columns, strict=True))

    def _matches(self) -> dict[int, ClassMatches]:
        return {label: self._matcher.matches(label) for label in self._labels()}

    def _labels(self) -> list[int]:
        """Return the classes with a true box other than a crowd; COCO leaves the others out."""
        return sorted({box.label for box in self._boxes if not box.crowd})

    def _of_group(
        self, matches: Mapping[int, ClassMatches], group: Group, resamples: int, seed: int
    ) -> list[MetricValue]:
        chosen = np.zeros(self._matcher.images, np.bool_)
        chosen[group.members] = True
        inside = {label: entry.within(chosen) for label, entry in matches.items()}
        once = chosen[None].astype(np.float64)
        drawn = draws(chosen.astype(np.int64), resamples, generator(seed, group.name))
        known, asked = self._matcher.thresholds, self._asked
        values, many = (figures(inside, self._names, known, asked, weights) for weights in (once, drawn))
        return list(metrics({name: figure[0] for name, figure in values.items()}, many, group.name))


def affordable_draws(matches: Mapping[int, ClassMatches], known: int, groups: Sequence[Group]) -> int:
    """Return the number of draws of all groups, at `known` thresholds, that takes seconds; at least 50."""
    width = known * sum(len(entry.image) for entry in matches.values())
    parts = 1 + len({group.name.partition("=")[0] for group in groups})
    return max(_LEAST_RESAMPLES, int(_WORK / max(1, 2 * width * parts)))


def figures(
    matches: Mapping[int, ClassMatches],
    names: Sequence[str],
    known: Sequence[float],
    asked: Sequence[float],
    weights: Floats,
) -> dict[str, Floats]:
    """Return every figure by name, each (weightings,).

    Args:
        matches: Matches by class, for classes with a true box.
        names: Names of all classes.
        known: Thresholds of the matches, including COCO's.
        asked: Thresholds that have figures of their own.
        weights: (weightings, images).
    """
    places = np.array(known)
    coco = [int(np.argmin(np.abs(places - value))) for value in COCO_THRESHOLDS]
    precision = {area: _stack([average_precision(m, weights, area) for m in matches.values()]) for area in AREAS}
    recall = {area: _stack([average_recall(m, weights, area) for m in matches.values()]) for area in AREAS}
    found = {"map": _mean(precision["all"][..., coco])}
    for value in asked:
        place = int(np.argmin(np.abs(places - value)))
        found[f"ap{100 * value:g}"] = _mean(precision["all"][..., [place]])
        found[f"recall{100 * value:g}"] = _mean(recall["all"][..., [place]])
    for area in list(AREAS)[1:]:
        found[f"ap_{area}"] = _mean(precision[area][..., coco])
        found[f"ar_{area}"] = _mean(recall[area][..., coco])
    for most in _RANKS:
        ranked = _stack([average_recall(m, weights, "all", most) for m in matches.values()])
        found[f"ar{most}"] = _mean(ranked[..., coco])
    for place, label in enumerate(matches):
        found[f"ap/{names[label]}"] = precision["all"][place][:, coco].mean(1)
    return found


def _stack(parts: list[Floats]) -> Floats:
    return np.stack(parts)


def _mean(values: Floats) -> Floats:
    """Return the mean of (classes, weightings, thresholds) over thresholds and over classes with true boxes."""
    by_class = values.mean(2)
    count = np.isfinite(by_class).sum(0)
    mean: Floats = np.divide(np.nansum(by_class, 0), count, out=np.full(len(count), np.nan), where=count > 0)
    return mean
