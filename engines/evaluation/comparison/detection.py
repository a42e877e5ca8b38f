"""Compares detectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.bootstrap import draws, generator
from engines.evaluation.box_matches import ClassMatches, Matcher
from engines.evaluation.comparison.side import Difference, Floats, flag
from engines.evaluation.detection import affordable_draws, figures, thresholds
from engines.evaluation.groups import Group
from engines.evaluation.predictions import DetectedBox, SamplePrediction

SURE = 0.5
"""Least score of a box on which the other side must agree."""
HALF_SURE = 0.25
"""Least score of a box that can match such a box."""
_LEAST_OVERLAP = 0.5

Boxes = NDArray[np.float32]


class DetectionSide:
    """One side of a comparison of detectors; see `Side`.

    Args:
        samples: Shared samples.
        names: Names of the classes.
        asked: Thresholds of intersection over union for which both sides have figures.
        groups: Parts of the data with figures of their own; they limit the draws to what can be computed in seconds.
    """

    def __init__(self, samples: int, names: Sequence[str], asked: Sequence[float], groups: Sequence[Group]) -> None:
        self._names = names
        self._asked = tuple(dict.fromkeys((0.5, 0.75, *asked)))
        self._groups = groups
        self._matcher = Matcher(thresholds(asked))
        self._order: list[int] = []
        self._labels: set[int] = set()
        self._boxes: list[Boxes] = [np.zeros((0, 6), np.float32)] * samples
        self._truths = np.zeros(samples)
        self._loss = np.full(samples, np.nan)
        self._correct = np.full(samples, np.nan)
        self._found: dict[int, ClassMatches] | None = None

    def take(self, position: int, sample: SamplePrediction) -> None:
        """Add the boxes of one sample."""
        self._boxes[position] = _kept(sample.detections)
        if sample.loss is None:
            return
        self._loss[position], self._correct[position] = sample.loss, flag(sample.correct)
        self._truths[position] = sum(not box.crowd for box in sample.truths)
        self._labels |= {box.label for box in sample.truths if not box.crowd}
        self._matcher.add(sample.truths, sample.detections)
        self._order.append(position)

    def differences(self, reference: DetectionSide, group: Group, resamples: int, seed: int) -> Iterator[Difference]:
        """Yield COCO's figures and those of each class. Draws take whole images."""
        sides = [side._matches() for side in (reference, self)]
        if not sides[0] or not sides[1]:
            return
        known = self._matcher.thresholds
        affordable = min(affordable_draws(matches, len(known), self._groups) for matches in sides)
        chosen = np.zeros(len(self._loss), np.bool_)
        chosen[group.members] = True
        drawn = draws(chosen.astype(np.int64), min(resamples, affordable), generator(seed, group.name))
        once = chosen[None].astype(np.float64)
        inside = [{label: entry.within(chosen) for label, entry in matches.items()} for matches in sides]
        values = [
            [figures(part, self._names, known, self._asked, weights) for weights in (once, drawn)] for part in inside
        ]
        (before, drawn_before), (after, drawn_after) = values
        for name in (name for name in before if name in after):
            yield Difference(name, float(before[name][0]), float(after[name][0]), drawn_before[name], drawn_after[name])

    def agreement(self, reference: DetectionSide) -> Floats:
        """Return 1 for images on which both sides find the same boxes.

        They do if every box of either side with a score of at least 0.5 has its own match among the other side's boxes
        with a score of at least 0.25: a box of the same class with an intersection over union of at least 0.5.
        Boxes are matched in descending order of score, each with the box that overlaps most.
        """
        both = zip(self._boxes, reference._boxes, strict=True)
        return np.array([float(_covered(mine, theirs) and _covered(theirs, mine)) for mine, theirs in both])

    def losses(self, reference: DetectionSide) -> Floats:
        """Return the increase of the image's loss per true box."""
        per_box: Floats = self.severity(reference) / np.maximum(self._truths, 1)
        return per_box

    def severity(self, reference: DetectionSide) -> Floats:
        """Return the increase of the image's loss: missed and false boxes, weighted by score."""
        rise: Floats = self._loss - reference._loss
        return rise

    def correct(self) -> Floats:
        """Return whether exactly the true boxes are found at an overlap of 0.5."""
        return self._correct

    def _matches(self) -> dict[int, ClassMatches]:
        """Return the matches of each class with a true box, by the positions of the shared samples."""
        if self._found is None:
            order = np.array(self._order, np.int64)
            self._found = {label: self._placed(self._matcher.matches(label), order) for label in sorted(self._labels)}
        return self._found

    def _placed(self, matches: ClassMatches, order: NDArray[np.int64]) -> ClassMatches:
        truths = np.zeros((len(matches.truths), len(self._loss)), np.int64)
        truths[:, order] = matches.truths
        return ClassMatches(order[matches.image], matches.rank, matches.right, matches.ignored, truths)


def _kept(detections: Sequence[DetectedBox]) -> Boxes:
    rows = [(box.label, box.score, box.x, box.y, box.width, box.height) for box in detections if box.score >= HALF_SURE]
    return np.array(sorted(rows, key=lambda entry: -entry[1]), np.float32).reshape(-1, 6)


def _covered(sure: Boxes, others: Boxes) -> bool:
    """Return whether every sure box has its own match among the others."""
    from pycocotools import mask

    wanted = sure[sure[:, 1] >= SURE]
    if not len(wanted):
        return True
    if len(others) < len(wanted):
        return False
    overlaps: Any = mask.iou(wanted[:, 2:].astype(np.float64), others[:, 2:].astype(np.float64), [0] * len(others))
    overlaps[wanted[:, :1] != others[None, :, 0]] = 0
    for row in overlaps:
        best = int(row.argmax())
        if row[best] < _LEAST_OVERLAP:
            return False
        overlaps[:, best] = 0
    return True
