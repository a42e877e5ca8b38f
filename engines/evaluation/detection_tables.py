"""Tables and curves of a detector's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from engines.evaluation.box_matches import AREAS, COCO_THRESHOLDS, ClassMatches, Matcher
from engines.evaluation.precision_recall import (
    RECALLS,
    Floats,
    average_precision,
    average_recall,
    interpolated_precision,
)
from engines.evaluation.predictions import TrueBox
from engines.evaluation.report_figures import DetectionClass, DetectionFigures, PrecisionRecallCurve

_DIGITS = 5
"""Digits of the points of curves, which keep a report small."""


def detection_figures(
    matches: Mapping[int, ClassMatches],
    names: Sequence[str],
    matcher: Matcher,
    asked: Sequence[float],
    *,
    boxes: Sequence[TrueBox],
    detections: NDArray[np.int64],
) -> DetectionFigures:
    """Return the figures of all classes, and the curves at the requested thresholds.

    Args:
        matches: Matches by class, for classes with a true box.
        names: Names of all classes.
        matcher: The matcher of the matches.
        asked: Thresholds of the curves.
        boxes: All true boxes.
        detections: Predicted boxes by class.
    """
    places = [int(np.argmin(np.abs(np.array(matcher.thresholds) - value))) for value in asked]
    weights = np.ones(matcher.images)
    curves = {label: interpolated_precision(entry, weights)[places] for label, entry in matches.items()}
    mean = np.mean(list(curves.values()), axis=0)
    lines = [_curve("", value, mean[number]) for number, value in enumerate(asked)]
    lines += [_curve(names[label], asked[0], curve[0]) for label, curve in curves.items()]
    objects = [box for box in boxes if not box.crowd]
    sizes = {area: sum(low <= box.area <= high for box in objects) for area, (low, high) in AREAS.items()}
    counts = np.bincount([box.label for box in objects], minlength=len(names))
    return DetectionFigures(
        iou_thresholds=tuple(asked),
        truths=len(objects),
        detections=int(detections.sum()),
        areas={"small": sizes["small"], "medium": sizes["medium"], "large": sizes["large"]},
        classes=tuple(
            _class(name, int(counts[label]), int(detections[label]), matches.get(label), matcher)
            for label, name in enumerate(names)
        ),
        curves=tuple(lines),
    )


def _class(name: str, truths: int, detections: int, matches: ClassMatches | None, matcher: Matcher) -> DetectionClass:
    if matches is None or not truths:
        return DetectionClass(name=name, truths=truths, detections=detections)
    known, weights = np.array(matcher.thresholds), np.ones((1, matcher.images))
    precision, recall = average_precision(matches, weights)[0], average_recall(matches, weights)[0]
    coco = [int(np.argmin(np.abs(known - value))) for value in COCO_THRESHOLDS]
    at = {value: float(precision[int(np.argmin(np.abs(known - value)))]) for value in (0.5, 0.75)}
    ap, ar = float(precision[coco].mean()), float(recall[coco].mean())
    return DetectionClass(name=name, truths=truths, detections=detections, ap=ap, ap50=at[0.5], ap75=at[0.75], ar100=ar)


def _curve(name: str, iou: float, precision: Floats) -> PrecisionRecallCurve:
    points = tuple(round(float(value), _DIGITS) for value in precision)
    recalls = tuple(round(float(value), 2) for value in RECALLS)
    return PrecisionRecallCurve(name=name, iou=iou, ap=float(precision.mean()), recall=recalls, precision=points)
