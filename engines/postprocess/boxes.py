"""Boxes: outputs of detectors that have them, and the last steps of every detector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .shared import Args, OutputMismatch, Outputs, Size, Taxonomies, output, sigmoid

SCORE_THRESHOLD = 0.05
MOST_CANDIDATES = 10_000
"""Most boxes of one sample in suppression: those with the highest scores."""


def detection(args: Args, outputs: Outputs, taxonomies: Taxonomies, size: Size) -> list[dict[str, Any]]:
    """Return the boxes of a model with outputs of boxes, scores and labels."""
    classes = len(taxonomies[0]["classes"]) if taxonomies else 0
    boxes, scores, labels, counts = _box_outputs(args, outputs, classes)
    boxes = corners(boxes, args.get("box_format", "xyxy"))
    labels = np.nan_to_num(labels, nan=-1, posinf=-1, neginf=-1).astype(np.int64) - args.get("label_offset", 0)
    found = []
    for index in range(len(boxes)):
        valid = slice(0, None if counts is None else max(0, int(np.nan_to_num(counts[index]))))
        rows = boxes[index][valid], scores[index][valid], labels[index][valid]
        found.append(finish(args, *rows, size=size, overlap=1.0))
    return found


def _box_outputs(args: Args, outputs: Outputs, classes: int) -> tuple[Any, Any, Any, Any]:
    """Return boxes (batch, n, 4), scores (batch, n), labels (batch, n), and counts or None."""
    arrays = {name: np.asarray(value) for name, value in outputs.items()}
    only = next(iter(arrays.values()))
    if len(arrays) == 1 and only.ndim >= 3 and only.shape[-1] == 6:
        rows = only.reshape(len(only), -1, 6).astype(np.float64)
        return rows[..., :4], rows[..., 4], rows[..., 5], None
    counts = np.ravel(output(arrays, args["count"], "count")) if args.get("count") else None
    left = {name: value for name, value in arrays.items() if name != args.get("count")}
    boxes = _take(left, args.get("boxes"), "boxes", ("box",), lambda a: a.ndim > 1 and a.shape[-1] == 4)
    scores = _take(left, args.get("scores"), "scores", ("score", "logit", "prob", "conf"), lambda a: a.ndim > 0)
    if boxes.ndim == 2:  # one sample without a batch axis
        boxes, scores = boxes[None], scores[None]
        left = {name: value[None] for name, value in left.items()}
    boxes, scores = boxes.reshape(len(boxes), -1, 4).astype(np.float64), scores.astype(np.float64)
    if scores.ndim == 3 and (scores.shape[-1] > 1 or not left):  # a single class if no output has labels
        first = args.get("label_offset", 0)
        columns = slice(first, first + classes if classes else None)  # without a last `no object`, as in DETR
        scores = _activated(scores, args.get("activation", "none"))[..., columns]
        if scores.shape[-1] < max(classes, 1):
            raise OutputMismatch(f"scores are expected to be (batch, n, {first + max(classes, 1)})")
        labels, scores = np.nan_to_num(scores, nan=-1.0).argmax(-1) + first, scores.max(-1)
    else:
        labels = _take(left, args.get("labels"), "labels", ("label", "class", "id"), lambda a: a.ndim > 0)
        labels, scores = labels.reshape(len(labels), -1), scores.reshape(len(scores), -1)
    if not boxes.shape[:2] == scores.shape == labels.shape or (counts is not None and len(counts) != len(boxes)):
        raise OutputMismatch("boxes (batch, n, 4), scores (batch, n) and labels (batch, n) of equal size are expected")
    return boxes, scores, labels, counts


def _take(
    left: dict[str, Any], name: str | None, role: str, words: tuple[str, ...], fits: Callable[[Any], bool]
) -> Any:
    """Take the named output, or the first that fits, preferably one whose name tells its role."""
    candidates = [key for key, value in left.items() if fits(value)]
    named = [key for key in candidates if any(word in key.lower() for word in words)]
    chosen = name or next(iter([*named, *candidates]), None)
    if chosen not in left:
        raise OutputMismatch(f"an output of {role} is expected" + (f", named '{name}'" if name else ""))
    return left.pop(chosen)


def _activated(scores: Any, activation: str) -> Any:
    if activation == "sigmoid":
        return sigmoid(scores)
    if activation == "softmax":
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)
    return scores


def finish(args: Args, boxes: Any, scores: Any, labels: Any, *, size: Size, overlap: float) -> dict[str, Any]:
    """Return the boxes of one sample in pixels, without low scores, non-finite values and overlaps of one class.

    Args:
        args: Arguments of the method.
        boxes: float64 (n, 4) x, y, x, y.
        scores: (n,).
        labels: (n,).
        size: Height and width of the input.
        overlap: Default of `iou_threshold`.
    """
    if args.get("normalized"):
        if size is None:
            raise OutputMismatch(
                "boxes in pixels are expected, because the size of the model's input is unknown: set normalized to 0"
            )
        boxes = boxes * np.array([size[1], size[0], size[1], size[0]], np.float64)
    good = np.isfinite(boxes).all(-1) & np.isfinite(scores) & (scores >= args.get("score_threshold", SCORE_THRESHOLD))
    order = np.flatnonzero(good)
    order = order[np.argsort(-scores[order], kind="stable")][:MOST_CANDIDATES]
    boxes, scores, labels = boxes[order], scores[order], labels[order].astype(np.int64)
    most, limit = args.get("max_detections", 100), args.get("iou_threshold", overlap)
    groups = np.zeros_like(labels) if args.get("class_agnostic") else labels
    kept = suppress(boxes, groups, limit, most) if limit < 1 else np.arange(len(boxes))[:most]
    return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def suppress(boxes: Any, groups: Any, limit: float, most: int) -> Any:
    """Return the boxes to keep: greedily, each box that overlaps a better one of its group is dropped.

    Args:
        boxes: (n, 4) x, y, x, y, the highest score first.
        groups: (n,) number of the group; only boxes of one group compete.
        limit: Intersection over union above which the worse box is dropped.
        most: Most boxes to keep.
    """
    areas = (boxes[:, 2] - boxes[:, 0]).clip(0) * (boxes[:, 3] - boxes[:, 1]).clip(0)
    left = np.arange(len(boxes))
    kept: list[int] = []
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(int(best))
        low, high = np.maximum(boxes[left, :2], boxes[best, :2]), np.minimum(boxes[left, 2:], boxes[best, 2:])
        shared = (high - low).clip(0).prod(-1)
        union = areas[left] + areas[best] - shared
        left = left[(groups[left] != groups[best]) | (shared <= limit * union)]
    return np.array(kept, np.int64)


def corners(boxes: Any, box_format: str) -> Any:
    """Return boxes (…, 4) of any format as x, y, x, y."""
    if box_format == "xyxy":
        return boxes
    if box_format == "yxyx":
        return boxes[..., [1, 0, 3, 2]]
    first, extent = boxes[..., :2], boxes[..., 2:]
    low = first - extent / 2 if box_format == "cxcywh" else first
    return np.concatenate([low, low + extent], -1)
