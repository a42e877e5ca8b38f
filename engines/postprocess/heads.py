"""Raw heads of detectors: class scores and boxes of every level of a feature pyramid, or of a second stage."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .boxes import SCORE_THRESHOLD, finish
from .shared import Args, OutputMismatch, Outputs, Size, Taxonomies, output, sigmoid

_LARGEST_LOG = float(np.log(1000 / 16))
"""Largest logarithm of a box's extent over its anchor's, unless `log_range` says otherwise."""


class _Level(NamedTuple):
    """One level of a pyramid, or all proposals of a second stage.

    Attributes:
        scores: (batch, n, classes), raw; softmax has one more column, the background, at the end.
        boxes: (batch, n, 4), or (batch, n, classes, 4) if each class has its own box.
        places: Anchors or proposals (1 or batch, n, 4), x, y, x, y; or points (1, n, 2).
        stride: Pixels between two positions.
        centerness: (batch, n), raw, by which scores are multiplied after the choice; None if there is none.
        objectness: (batch, n), raw, by which scores are multiplied before the choice; None if there is none.
    """

    scores: Any
    boxes: Any
    places: Any
    stride: float
    centerness: Any
    objectness: Any


def heads(args: Args, outputs: Outputs, taxonomies: Taxonomies, size: Size) -> list[dict[str, Any]]:
    """Return the boxes that raw heads mean."""
    arrays = {name: np.asarray(value, np.float64) for name, value in outputs.items()}
    levels = _second_stage(args, arrays) if args.get("proposals") else _pyramid(args, arrays)
    _check_classes(args, levels, len(taxonomies[0]["classes"]) if taxonomies else 0)
    if len({len(level.scores) for level in levels}) != 1:
        raise OutputMismatch("every output is expected to have one row per sample")
    found = []
    for index in range(len(levels[0].scores)):
        parts = zip(*(_candidates(args, level, index) for level in levels), strict=True)
        boxes, scores, labels = map(np.concatenate, parts)
        found.append(_finished(args, boxes, scores, labels, size))
    return found


def _finished(args: Args, boxes: Any, scores: Any, labels: Any, size: Size) -> dict[str, Any]:
    """Suppress and clip. Low scores are gone already: the threshold is one of class scores, before any centerness."""
    clip = args.get("clip", "before") if size is not None else "never"
    if clip == "before":
        boxes, scores, labels = _inside(boxes, scores, labels, size)
    found = finish({**args, "score_threshold": 0.0, "normalized": 0}, boxes, scores, labels, size=size, overlap=0.5)
    if clip == "after":
        kept = _inside(found["boxes"], found["scores"], found["labels"], size)
        found = dict(zip(("boxes", "scores", "labels"), kept, strict=True))
    return found


def _inside(boxes: Any, scores: Any, labels: Any, size: Any) -> tuple[Any, Any, Any]:
    """Return the boxes within the input, without those that nothing is left of."""
    boxes = boxes.clip(0, np.array([size[1], size[0], size[1], size[0]], np.float64))
    left = (boxes[:, 2:] > boxes[:, :2]).all(-1)
    return boxes[left], scores[left], labels[left]


def _candidates(args: Args, level: _Level, index: int) -> tuple[Any, Any, Any]:
    """Return the boxes (n, 4), scores (n,) and labels (n,) of one sample that reach the threshold, at most `candidates`
    of a level.
    """
    scores = _probabilities(level.scores[index], args.get("activation", "sigmoid"))
    if level.objectness is not None:
        scores = scores * sigmoid(level.objectness[index])[:, None]
    if not args.get("multi_label", 1):
        best = scores.argmax(-1)[:, None] == np.arange(scores.shape[-1])
        scores = np.where(best, scores, -1.0)
    rows, labels = np.nonzero(scores > args.get("score_threshold", SCORE_THRESHOLD))
    chosen = scores[rows, labels]
    most = args.get("candidates", 0) or len(chosen)
    order = np.argsort(-chosen, kind="stable")[:most]
    rows, labels, chosen = rows[order], labels[order], chosen[order]
    if level.centerness is not None:
        chosen = chosen * sigmoid(level.centerness[index][rows])
    predicted = level.boxes[index][rows]
    if predicted.ndim == 3:
        predicted = predicted[np.arange(len(rows)), labels]
    places = level.places[index if len(level.places) > 1 else 0][rows]
    return _decoded(args, predicted, places, level.stride), chosen, labels


def _probabilities(scores: Any, activation: str) -> Any:
    if activation == "sigmoid":
        return sigmoid(scores)
    if activation == "none":
        return scores
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return (powers / powers.sum(-1, keepdims=True))[..., :-1]


def _decoded(args: Args, predicted: Any, places: Any, stride: float) -> Any:
    """Return boxes (n, 4) x, y, x, y in pixels of predictions (n, 4) at anchors (n, 4) or points (n, 2).

    Deltas are those of R-CNN (Girshick et al., 2014), distances those of FCOS (Tian et al., 2019), points those of
    YOLOX (Ge et al., 2021).
    """
    decoding = args.get("decoding", "deltas")
    if decoding == "distances":
        return np.concatenate([places - predicted[:, :2], places + predicted[:, 2:]], -1)
    if decoding == "points":
        centres = places + predicted[:, :2] * stride
        extents = np.exp(np.minimum(predicted[:, 2:], 20)) * stride
    else:
        predicted = predicted * np.array(args.get("stds", [1.0] * 4)) + np.array(args.get("means", [0.0] * 4))
        low, high = args.get("log_range", [-_LARGEST_LOG, _LARGEST_LOG])
        sizes = places[:, 2:] - places[:, :2]
        centres = (places[:, 2:] + places[:, :2]) / 2 + predicted[:, :2] * sizes
        extents = sizes * np.exp(predicted[:, 2:].clip(low, high))
    return np.concatenate([centres - extents / 2, centres + extents / 2], -1)


def _pyramid(args: Args, arrays: dict[str, Any]) -> list[_Level]:
    scores, boxes = _named(args, arrays, "scores"), _named(args, arrays, "boxes")
    centerness, objectness = _named(args, arrays, "centerness"), _named(args, arrays, "objectness")
    strides = args.get("strides", [])
    if not scores:
        raise OutputMismatch("outputs of scores are expected, one per level: name them in the argument scores")
    for role, given in (("boxes", boxes), ("centerness", centerness), ("objectness", objectness), ("strides", strides)):
        if len(given) != len(scores) and (given or role in {"boxes", "strides"}):
            raise OutputMismatch(
                f"{len(scores)} levels have scores, and {len(given)} have {role}; all levels need them"
            )
    anchors = _anchors(args, len(scores))
    offset = float(args.get("offset", 0.0))
    none = [None] * len(scores)
    return [
        _level(level, around, (float(stride), offset))
        for level, around, stride in zip(
            zip(scores, boxes, centerness or none, objectness or none, strict=True), anchors, strides, strict=True
        )
    ]


def _named(args: Args, arrays: dict[str, Any], role: str) -> list[Any]:
    """Return the outputs of a role: those that the argument names, else all that are named so, `scores_0`…"""
    named = args.get(role) or [name for name in arrays if name.rpartition("_")[0] == role]
    return [output(arrays, name, role) for name in named]


def _anchors(args: Args, levels: int) -> list[Any]:
    """Return the anchors (n, 4) around the first position of each level, or (1, 0) where boxes start from points."""
    if args.get("decoding", "deltas") != "deltas":
        return [np.zeros((1, 0))] * levels
    rows = np.asarray(args.get("base_anchors", []), np.float64)
    counts = args.get("anchor_counts") or [len(rows) // (4 * levels)] * levels
    if len(counts) != levels or not len(rows) or 4 * sum(counts) != len(rows):
        raise OutputMismatch(
            f"base_anchors are expected as x, y, x, y around a position, {levels} levels of them (anchor_counts), not "
            f"{len(rows)} numbers for {counts} anchors"
        )
    return np.split(rows.reshape(-1, 4), np.cumsum(counts)[:-1])


def _level(heads: tuple[Any, Any, Any, Any], anchors: Any, grid: tuple[float, float]) -> _Level:
    (scores, boxes, centerness, objectness), (stride, offset) = heads, grid
    per = len(anchors)
    places = {array.shape[2:] for array in (scores, boxes, centerness, objectness) if array is not None}
    if scores.ndim != 4 or len(places) != 1 or scores.shape[1] % per or boxes.shape[1] != 4 * per:
        raise OutputMismatch(
            f"scores (batch, {per} * classes, h, w) and boxes (batch, {4 * per}, h, w) of one size are expected, not "
            f"{scores.shape} and {boxes.shape}"
        )
    at = (np.stack(np.meshgrid(*(np.arange(n) for n in scores.shape[:1:-1])), -1) + offset) * stride
    points = at.reshape(-1, 1, 2)
    found = np.concatenate([points, points], -1) + anchors[None] if anchors.shape[1] else points
    return _Level(
        _rows(scores, per),
        _rows(boxes, per),
        found.reshape(1, -1, found.shape[-1]),
        stride,
        None if centerness is None else _rows(centerness, per)[..., 0],
        None if objectness is None else _rows(objectness, per)[..., 0],
    )


def _rows(array: Any, per: int) -> Any:
    """Return (batch, per * values, h, w) as (batch, h * w * per, values)."""
    batch, channels, *extents = array.shape
    return (
        array.reshape(batch, per, channels // per, *extents)
        .transpose(0, 3, 4, 1, 2)
        .reshape(batch, -1, channels // per)
    )


def _second_stage(args: Args, arrays: dict[str, Any]) -> list[_Level]:
    proposals = output(arrays, args["proposals"], "proposals")
    (scores, *more), (boxes, *others) = (
        _named(args, arrays, role) or [output(arrays, role, role)] for role in ("scores", "boxes")
    )
    fits = proposals.ndim == scores.ndim == boxes.ndim == 3 and proposals.shape[2] == 4 and not (more or others)
    if not fits or not proposals.shape[:2] == scores.shape[:2] == boxes.shape[:2] or boxes.shape[2] % 4:
        raise OutputMismatch(
            "proposals (batch, n, 4), scores (batch, n, classes) and boxes (batch, n, 4 or 4 * classes) are expected, "
            f"not {proposals.shape}, {scores.shape} and {boxes.shape}"
        )
    if boxes.shape[2] > 4:
        boxes = boxes.reshape(*boxes.shape[:2], -1, 4)
    return [_Level(scores, boxes, proposals, 1.0, None, None)]


def _check_classes(args: Args, levels: list[_Level], classes: int) -> None:
    background = int(args.get("activation", "sigmoid") == "softmax")
    for level in levels:
        found = level.scores.shape[-1] - background
        own = level.boxes.shape[2] if level.boxes.ndim == 4 else found
        if found < 1 or (classes and found != classes) or own != found:
            raise OutputMismatch(
                f"scores of {classes or 'one or more'} classes{' and the background' * background} are expected, not "
                f"of {level.scores.shape[-1]}" + (f", and boxes of as many, not of {own}" if own != found else "")
            )
