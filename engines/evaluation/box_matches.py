"""Matches predicted boxes with true ones, image by image, with pycocotools' `COCOeval`.

The matches are kept in arrays, so that average precision over any part or draw of the images needs no rematching.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.predictions import DetectedBox, TrueBox

AREAS: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
"""COCO's sizes of true objects, in pixels of area."""

COCO_THRESHOLDS = tuple(float(value) for value in np.linspace(0.5, 0.95, 10))
MOST_DETECTIONS = 100
"""Only the boxes with the highest scores count, at most this many per image and class."""

Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class ClassMatches:
    """Detections and true boxes of one class over all images, detections in descending order of score.

    Attributes:
        image: (n,) index of the image of each detection.
        rank: (n,) rank of the detection in its image, from 0.
        right: (areas, thresholds, n) whether it is matched with a true box of that size.
        ignored: (areas, thresholds, n) whether it does not count, because it matches a crowd or has another size.
        truths: (areas, images) number of true boxes, without crowds.
    """

    image: NDArray[np.int64]
    rank: NDArray[np.int64]
    right: Flags
    ignored: Flags
    truths: NDArray[np.int64]

    def within(self, chosen: Flags) -> ClassMatches:
        """Return the matches in the chosen images (images,)."""
        kept = chosen[self.image]
        parts = self.image[kept], self.rank[kept], self.right[..., kept], self.ignored[..., kept]
        return ClassMatches(*parts, self.truths * chosen)


@dataclass(frozen=True)
class ImageResult:
    """The result of an image at the threshold 0.5: its loss, and whether exactly its true boxes were found."""

    loss: float
    correct: bool


@dataclass
class _Pile:
    scores: list[float] = field(default_factory=list)
    image: list[int] = field(default_factory=list)
    rank: list[int] = field(default_factory=list)
    right: list[Flags] = field(default_factory=list)
    ignored: list[Flags] = field(default_factory=list)
    truths: list[tuple[int, list[int]]] = field(default_factory=list)


class Matcher:
    """Matches one image after another.

    Args:
        thresholds: Intersections over union in ascending order, including 0.5.
    """

    def __init__(self, thresholds: Sequence[float]) -> None:
        from pycocotools.cocoeval import COCOeval

        self.thresholds = tuple(thresholds)
        self._half = int(np.argmin(np.abs(np.array(thresholds) - 0.5)))
        self._evaluator: Any = COCOeval(iouType="bbox")
        self._evaluator.params.iouThrs = np.array(thresholds)
        self._piles: dict[int, _Pile] = defaultdict(_Pile)
        self.images = 0

    def add(self, truths: Sequence[TrueBox], detections: Sequence[DetectedBox]) -> ImageResult:
        """Match the boxes of the next image."""
        loss, missed, false = 0.0, 0, 0.0
        for label in sorted({box.label for box in truths} | {box.label for box in detections}):
            own = [box for box in truths if box.label == label]
            found = sorted((box for box in detections if box.label == label), key=lambda box: -box.score)
            scores = np.array([box.score for box in found[:MOST_DETECTIONS]])
            right, ignored, unmatched = self._match(label, own, found) if own else self._unmatched(label, found)
            wrong = scores[~right & ~ignored].sum()
            count = sum(not box.crowd for box in own)
            loss += count - scores[right].sum() + wrong
            missed, false = missed + unmatched, false + wrong
        self.images += 1
        return ImageResult(float(loss), missed == 0 and false < 0.5)

    def matches(self, label: int) -> ClassMatches:
        """Return the matches of a class over all images so far."""
        pile, shape = self._piles[label], (len(AREAS), len(self.thresholds))
        order = np.argsort(-np.array(pile.scores), kind="stable") if pile.scores else np.zeros(0, np.int64)
        truths = np.zeros((len(AREAS), self.images), np.int64)
        for image, counts in pile.truths:
            truths[:, image] = counts
        empty = np.zeros((*shape, 0), np.bool_)
        right, ignored = (np.concatenate([empty, *parts], axis=2)[..., order] for parts in (pile.right, pile.ignored))
        images, ranks = (np.array(values, np.int64)[order] for values in (pile.image, pile.rank))
        return ClassMatches(images, ranks, right, ignored, truths)

    def _unmatched(self, label: int, detections: list[DetectedBox]) -> tuple[Flags, Flags, int]:
        """Return the same as `_match` for no true box, which is the case of most false detections."""
        found = detections[:MOST_DETECTIONS]
        area = np.array([box.width * box.height for box in found])
        other = np.stack([(area < low) | (area > high) for low, high in AREAS.values()])
        ignored = np.repeat(other[:, None], len(self.thresholds), axis=1)
        right = np.zeros_like(ignored)
        self._pile(label, [box.score for box in found], right, ignored)
        return right[0, self._half], ignored[0, self._half], 0

    def _pile(self, label: int, scores: list[float], right: Flags, ignored: Flags) -> _Pile:
        pile = self._piles[label]
        pile.scores += scores
        pile.image += [self.images] * len(scores)
        pile.rank += range(len(scores))
        pile.right.append(right)
        pile.ignored.append(ignored)
        return pile

    def _match(self, label: int, truths: list[TrueBox], detections: list[DetectedBox]) -> tuple[Flags, Flags, int]:
        """Return which detections are right and ignored at 0.5, and how many true boxes are missed there."""
        evaluator, key = self._evaluator, (0, label)
        evaluator._gts = defaultdict(list, {key: [_true(number, box) for number, box in enumerate(truths, 1)]})
        evaluator._dts = defaultdict(list, {key: [_found(number, box) for number, box in enumerate(detections, 1)]})
        evaluator.ious = {key: evaluator.computeIoU(*key)}
        results = [evaluator.evaluateImg(*key, list(area), MOST_DETECTIONS) for area in AREAS.values()]
        ignored = np.stack([result["dtIgnore"] for result in results]).astype(np.bool_)
        right = (np.stack([result["dtMatches"] for result in results]) > 0) & ~ignored
        pile = self._pile(label, results[0]["dtScores"], right, ignored)
        pile.truths.append((self.images, [int((result["gtIgnore"] == 0).sum()) for result in results]))
        whole = results[0]
        unmatched = int(((whole["gtMatches"][self._half] == 0) & (whole["gtIgnore"] == 0)).sum())
        return right[0, self._half], ignored[0, self._half], unmatched


def _true(number: int, box: TrueBox) -> dict[str, Any]:
    place = [box.x, box.y, box.width, box.height]
    crowd = int(box.crowd)
    return {"id": number, "bbox": place, "area": box.area, "iscrowd": crowd, "ignore": crowd}


def _found(number: int, box: DetectedBox) -> dict[str, Any]:
    place = [box.x, box.y, box.width, box.height]
    return {"id": number, "bbox": place, "area": box.width * box.height, "score": box.score}
