"""The samples with the largest loss, with thumbnails."""

from __future__ import annotations

import base64
import heapq
from collections.abc import Mapping

from engines.datasets.selection import Selection
from engines.evaluation.predictions import SamplePrediction, TaskPrediction
from engines.evaluation.report import TaskAnswer, WorstSample
from engines.failures import EngineFailure
from engines.imaging import DrawnBox, Image, draw
from engines.imaging.steps import Sized

MOST = 24
_LONGEST_SIDE = 480
_MOST_BOXES = 30
_LEAST_SCORE = 0.3
"""Least score of a box that is drawn in a thumbnail; the best box always is."""


class Worst:
    """Collects the samples with the largest loss."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, SamplePrediction]] = []

    def add(self, sample: SamplePrediction) -> None:
        """Add a sample, unless it has no loss."""
        if not sample.loss:
            return
        entry = sample.loss, -sample.number, sample
        if len(self._heap) < MOST:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def report(self, selection: Selection, classes: Mapping[str, tuple[str, ...]]) -> tuple[WorstSample, ...]:
        """Return the samples, the worst first."""
        ordered = sorted(self._heap, key=lambda entry: entry[:2], reverse=True)
        return tuple(_worst(sample, selection, classes) for _, _, sample in ordered)


def _worst(sample: SamplePrediction, selection: Selection, classes: Mapping[str, tuple[str, ...]]) -> WorstSample:
    names = next(iter(classes.values()), ())
    return WorstSample(
        number=sample.number,
        path=sample.path,
        loss=sample.loss or 0.0,
        attributes=dict(sample.attributes),
        image_png=_thumbnail(sample, selection, names),
        answers=tuple(task_answer(given, classes[given.task]) for given in sample.tasks),
        truths=tuple(names[box.label] for box in sample.truths),
        detections=tuple(f"{names[box.label]} {box.score:.2f}" for box in sample.detections[:_MOST_BOXES]),
    )


def task_answer(given: TaskPrediction, names: tuple[str, ...]) -> TaskAnswer:
    """Return truth and prediction of a task with the names of its classes."""
    return TaskAnswer(
        task=given.task,
        truth=names[given.truth] if given.truth >= 0 else "",
        predicted=names[given.predicted] if given.predicted >= 0 else "",
        score=given.score,
        correct=given.correct if given.truth >= 0 else None,
    )


def _thumbnail(sample: SamplePrediction, selection: Selection, names: tuple[str, ...]) -> str:
    if selection.is_tensors:
        return ""
    try:
        image = selection.image(selection.items[sample.number])
    except EngineFailure:
        return ""  # A report without one picture is better than no report.
    image, scale = _smaller(image)
    boxes = [
        DrawnBox(names[box.label], box.x * scale, box.y * scale, box.width * scale, box.height * scale, dashed=True)
        for box in sample.truths
    ]
    found = [
        box for number, box in enumerate(sample.detections[:_MOST_BOXES]) if not number or box.score >= _LEAST_SCORE
    ]
    boxes += [
        DrawnBox(names[box.label], box.x * scale, box.y * scale, box.width * scale, box.height * scale, box.score)
        for box in found
    ]
    return base64.b64encode(draw(image, boxes, classes=names)).decode()


def _smaller(image: Image) -> tuple[Image, float]:
    """Return the image with its longer side limited, and its scale."""
    height, width = image.shape[:2]
    scale = min(1.0, _LONGEST_SIDE / max(height, width))
    if scale == 1.0:
        return image, 1.0
    return Sized("resize", max(1, round(height * scale)), max(1, round(width * scale))).apply(image), scale
