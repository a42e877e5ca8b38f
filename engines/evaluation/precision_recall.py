"""Average precision and recall as COCO defines them, from matches, for many weightings of the images at once.

A weighting is how often each image counts: once each for the figure itself, the counts of a bootstrap draw for its
interval. COCO interpolates: the precision at a recall is the largest at that recall or a higher one, read at 101
recalls from 0 to 1. Precision only rises at right detections, so only these matter: one that raises the recall from a
to b covers the recalls in (a, b].
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.box_matches import AREAS, ClassMatches

Floats = NDArray[np.float64]

RECALLS: Floats = np.linspace(0.0, 1.0, 101)
_AREA_NUMBERS = {name: number for number, name in enumerate(AREAS)}
_MOST_ELEMENTS = 8_000_000


def average_precision(matches: ClassMatches, weights: Floats, area: str = "all") -> Floats:
    """Return the average precision (weightings, thresholds); NaN if a weighting has no true box.

    Args:
        matches: Matches of one class.
        weights: (weightings, images).
        area: One of `AREAS`.
    """
    found = np.zeros((len(weights), matches.right.shape[1]))
    for rows in _chunks(len(weights), len(matches.image)):
        for threshold, (recall, precision) in enumerate(_steps(matches, weights[rows], _AREA_NUMBERS[area])):
            covered = np.searchsorted(RECALLS, recall, side="right")
            fresh = np.diff(covered, axis=1, prepend=0)
            found[rows, threshold] = (precision * fresh).sum(1) / len(RECALLS)
    found[_positives(matches, weights, area) == 0] = np.nan
    return found


def average_recall(matches: ClassMatches, weights: Floats, area: str = "all", most: int = 100) -> Floats:
    """Return the recall (weightings, thresholds) with at most `most` detections per image; NaN without true boxes."""
    positives = _positives(matches, weights, area)[:, None]
    counted = matches.right[_AREA_NUMBERS[area]] & (matches.rank < most)
    by_image = np.zeros((weights.shape[1], counted.shape[0]))
    np.add.at(by_image, matches.image, counted.T)
    shape = (len(weights), counted.shape[0])
    recall: Floats = np.divide(weights @ by_image, positives, out=np.full(shape, np.nan), where=positives > 0)
    return recall


def interpolated_precision(matches: ClassMatches, weights: Floats, area: str = "all") -> Floats:
    """Return the precision (thresholds, 101) at each of `RECALLS` for one weighting (images,); 0 after the last."""
    curves = np.zeros((matches.right.shape[1], len(RECALLS)))
    for threshold, (recall, precision) in enumerate(_steps(matches, weights[None], _AREA_NUMBERS[area])):
        places = np.searchsorted(recall[0], RECALLS, side="left")
        reached = places < recall.shape[1]
        curves[threshold, reached] = precision[0, places[reached]]
    return curves


def _steps(matches: ClassMatches, weights: Floats, area: int) -> Iterator[tuple[Floats, Floats]]:
    """Yield, for each threshold, recall and interpolated precision (weightings, right detections)."""
    positives = (weights @ matches.truths[area])[:, None]
    counts = weights[:, matches.image]
    seen: dict[bytes, Floats] = {}
    for right, ignored in zip(matches.right[area], matches.ignored[area], strict=True):
        key = ignored.tobytes()
        if key not in seen:
            seen.clear()
            seen[key] = np.cumsum(counts[:, ~ignored], axis=1)
        hits = np.flatnonzero(right[~ignored])
        everything = seen[key][:, hits]
        true = np.cumsum(counts[:, np.flatnonzero(right)], axis=1)
        precision = np.divide(true, everything, out=np.zeros_like(true), where=everything > 0)
        recall = np.divide(true, positives, out=np.zeros_like(true), where=positives > 0)
        yield recall, np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]


def _positives(matches: ClassMatches, weights: Floats, area: str) -> Floats:
    count: Floats = weights @ matches.truths[_AREA_NUMBERS[area]]
    return count


def _chunks(rows: int, width: int) -> Iterator[slice]:
    step = max(1, _MOST_ELEMENTS // max(1, width))
    return (slice(start, start + step) for start in range(0, rows, step))
