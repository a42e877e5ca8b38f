"""Turns a model's outputs into predictions, by the method of its package. It only needs NumPy: every package has a copy
of this folder next to its `infer.py`.

All arguments have defaults. Outputs that are not named in them are found by name, shape and order.

| method | argument | default | meaning |
|---|---|---|---|
| classification | scores | the first output | output (batch, classes): logits or probabilities |
| multi_classification | scores | all, in order | outputs, one per taxonomy |
| both | label_offset | 0 | columns before the first class: 1 if column 0 is the background |
| detection | boxes, scores, labels | by name or shape | (batch, n, 4); (batch, n) or (batch, n, classes); (batch, n) |
| | count | none | output (batch,): how many of the n are valid |
| | activation | none | of scores without labels: `none`, `sigmoid`, `softmax` |
| | label_offset | 0 | number of the first class: 1 if 0 is the background |
| | box_format | xyxy | `xyxy`, `yxyx`, `xywh`, `cxcywh` |
| | iou_threshold | 1 | boxes of one class that overlap more are suppressed; 1 suppresses none |
| yolo | outputs | all, in order | heads |
| | head | by shape | `anchor` (…, 5 + classes), `anchor_free` (batch, 4 + classes, n); boxes are cxcywh |
| | decoded | 1 for three axes | 0 if (batch, n, 5 + classes) has raw values |
| | anchors, strides | none | of raw heads: widths and heights in pixels, head by head; a stride per head |
| | decoding | v5 | formula of raw boxes: `v5`, `v3` |
| | num_classes | of the taxonomy | number of classes |
| | multi_label | 0 | 1 allows several classes per position |
| | iou_threshold | 0.5 | as above |
| heads | scores, boxes | `scores_0`… `boxes_0`… | per level (batch, anchors * classes, h, w) and (…, anchors * 4, …) |
| | centerness | `centerness_0`… | (batch, anchors, h, w), by which scores are multiplied once a level's are chosen |
| | objectness | `objectness_0`… | the same, before |
| | proposals | none | of a second stage: (batch, n, 4) beside (batch, n, classes) and (batch, n, 4 * classes) |
| | activation | sigmoid | `sigmoid`, `softmax` (the last column is the background), `none` |
| | decoding | deltas | `deltas` of anchors or proposals, `distances` of sides from a point, `points` (in strides) |
| | strides | none | pixels between two positions, level by level |
| | base_anchors | none | x, y, x, y around a position, level by level |
| | anchor_counts | equally many | anchors of each level |
| | offset | 0 | where the first point of a level is, in strides |
| | means, stds | 0, 1 | of deltas, for x, y, width, height |
| | log_range | ±ln(1000/16) | smallest and largest logarithm of a size over its anchor's |
| | multi_label | 1 | 0 takes the best class of a position only |
| | candidates | 0 | most boxes of a level that enter suppression, the best first; 0 for all |
| | clip | before | cuts boxes at the edges of the input: `before` or `after` suppression, or `never` |
| | iou_threshold | 0.5 | as above |
| detection, yolo | normalized | 0 | 1 if boxes are fractions of the input's size |
| detection, yolo, heads | score_threshold | 0.05 | lower scores are dropped |
| | max_detections | 100 | most boxes of one sample |
| | class_agnostic | 0 | 1 also suppresses boxes of other classes |
| embedding | vector | by name, the first | output (batch, dimension) or (batch, tokens, dimension) |
| | pooling | none | of tokens: `none` (one vector of all), `mean`, `first` |
| | normalize | 0 | 1 scales vectors to length 1 |

Detection also takes one output (batch, n, 6) of x, y, x, y, score, label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .boxes import detection
from .heads import heads
from .scores import classification, embedding, multi_classification, raw
from .shared import Args, OutputMismatch, Outputs, Size, Taxonomies, input_size
from .yolo import yolo

__all__ = ["METHODS", "OutputMismatch", "check", "describe", "input_size", "plain", "run"]

METHODS = ("classification", "multi_classification", "detection", "yolo", "heads", "embedding", "raw")

_RUNNERS = {
    "classification": classification,
    "multi_classification": multi_classification,
    "detection": detection,
    "yolo": yolo,
    "heads": heads,
    "embedding": embedding,
    "raw": raw,
}


def plain(args: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return typed arguments, such as `{"iou_threshold": {"sf": 0.5}}` or protobuf's JSON form, as plain values."""
    values = {}
    for name, typed in args.items():
        kind, content = next(iter(typed.items()))
        cast: Any = {"i": int, "f": float, "s": str}[kind[-1]]
        if kind.startswith("v"):
            content = content.get("values", []) if isinstance(content, Mapping) else content
            values[name] = [cast(item) for item in content]
        else:
            values[name] = cast(content)
    return values


def check(method: str, args: Args, output_shapes: Mapping[str, Sequence[int]], taxonomies: Taxonomies) -> str:
    """Return how the outputs do not fit the method, as a sentence; empty if they fit."""
    try:
        run(
            method,
            args,
            {name: np.zeros(tuple(shape), np.float32) for name, shape in output_shapes.items()},
            taxonomies,
        )
    except OutputMismatch as mismatch:
        return str(mismatch)
    return ""


def run(
    method: str, args: Args, outputs: Outputs, taxonomies: Taxonomies, input_size: Size = None
) -> list[dict[str, Any]]:
    """Return the prediction of each sample of a batch.

    Args:
        method: One of `METHODS`.
        args: Valid arguments as plain values.
        outputs: Outputs of the model by name, with the batch as the first axis.
        taxonomies: `{"task", "classes"}` of each classification task; a detector uses the first.
        input_size: Height and width of the model's input, for boxes that are fractions of it or on a raw grid.

    Returns:
        `classification`, `multi_classification`: `{"tasks": {task: scores}}`, float64 (classes,). `detection`, `yolo`:
        `{"boxes", "scores", "labels"}`, float64 (n, 4) x, y, x, y in pixels of the input, float64 (n,), int64 (n,), the
        highest score first. `embedding`: `{"vector"}`, float64. `raw`: `{"outputs": {name: array}}`.

    Raises:
        OutputMismatch: If the outputs do not fit the method.
    """
    return _RUNNERS[method](args, outputs, taxonomies, input_size)


def describe(prediction: Mapping[str, Any], taxonomies: Taxonomies, number: int, most: int = 5) -> list[str]:
    """Return a prediction in words: the best classes of each task, or the best boxes. `number` is the sample's."""
    if "tasks" in prediction:
        classes = {entry["task"]: entry["classes"] for entry in taxonomies}
        lines = []
        for task, scores in prediction["tasks"].items():
            best = np.argsort(-scores, kind="stable")[:most]
            lines.append(
                f"{task}[{number}]: " + ", ".join(f"{_name(classes.get(task), i)} {scores[i]:.4f}" for i in best)
            )
        return lines
    if "boxes" in prediction:
        names = taxonomies[0]["classes"] if taxonomies else None
        rows = list(zip(prediction["labels"], prediction["scores"], prediction["boxes"], strict=True))[:most]
        return [
            f"box[{number}]: {_name(names, i)} {score:.4f} at {' '.join(f'{v:.1f}' for v in b)}" for i, score, b in rows
        ]
    return []


def _name(names: Sequence[str] | None, index: int) -> str:
    return names[index] if names and 0 <= index < len(names) else f"class {index}"
