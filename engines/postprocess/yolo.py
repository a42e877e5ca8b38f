"""Heads of YOLO models: with anchors (raw or decoded), and anchor-free."""

from __future__ import annotations

from typing import Any

import numpy as np

from .boxes import SCORE_THRESHOLD, corners, finish
from .shared import Args, OutputMismatch, Outputs, Size, Taxonomies, output, sigmoid


def yolo(args: Args, outputs: Outputs, taxonomies: Taxonomies, size: Size) -> list[dict[str, Any]]:
    """Return the boxes of YOLO heads."""
    arrays = [np.asarray(output(outputs, name, "heads"), np.float64) for name in args.get("outputs") or outputs]
    classes = args.get("num_classes") or (len(taxonomies[0]["classes"]) if taxonomies else 0)
    shapes = {array.ndim for array in arrays}
    if len({array.shape[:1] for array in arrays}) != 1:
        raise OutputMismatch("every output is expected to have one row per sample")
    if len(arrays) == 1 and shapes == {3} and _anchor_free(arrays[0], classes, args.get("head")):
        rows = arrays[0] if classes and arrays[0].shape[2] == 4 + classes else arrays[0].transpose(0, 2, 1)
        boxes, scores = rows[..., :4], rows[..., 4:]
    elif shapes <= {3, 4, 5} and len(shapes) == 1 and all(_anchored(array, classes, args) for array in arrays):
        heads = [array.reshape(len(array), -1, array.shape[-1]) for array in arrays]
        if shapes != {3} or not args.get("decoded", 1):
            heads = _decoded(arrays, args, size)
        rows = np.concatenate(heads, axis=1)
        boxes, scores = rows[..., :4], rows[..., 4:5] * rows[..., 5:]
    else:
        n = classes or "classes"
        raise OutputMismatch(
            f"a yolo head is expected: (batch, n, 5 + {n}), raw (batch, anchors, h, w, 5 + {n}) or (batch, anchors * "
            f"(5 + {n}), h, w) with the arguments anchors and strides, or anchor-free (batch, 4 + {n}, n)"
        )
    found = []
    for at, score in zip(boxes, scores, strict=True):
        if args.get("multi_label"):
            place, label = np.nonzero(score >= args.get("score_threshold", SCORE_THRESHOLD))
        else:
            place, label = np.arange(len(score)), np.nan_to_num(score, nan=-1.0).argmax(-1)
        found.append(finish(args, corners(at[place], "cxcywh"), score[place, label], label, size=size, overlap=0.5))
    return found


def _anchor_free(array: Any, classes: int, head: str | None) -> bool:
    if head == "anchor":
        return False
    if classes:
        return 4 + classes in array.shape[1:]
    return bool(4 < array.shape[1] < array.shape[2])


def _anchored(array: Any, classes: int, args: Args) -> bool:
    per = _anchor_count(args)
    if args.get("head") == "anchor_free" or (not per and (array.ndim > 3 or not args.get("decoded", 1))):
        return False
    if array.ndim == 5 and array.shape[1] != per:
        return False
    last = array.shape[1] / per if array.ndim == 4 else array.shape[-1]
    return bool(last == 5 + classes if classes else last > 5 and last == int(last))


def _anchor_count(args: Args) -> int:
    """Return the number of anchors of each head; 0 if none are given."""
    anchors, strides = args.get("anchors"), args.get("strides")
    if not anchors or not strides:
        return 0
    per, rest = divmod(len(anchors), 2 * len(strides))
    if rest:
        found = f"{len(anchors)} numbers for {len(strides)}"
        raise OutputMismatch(f"anchors are expected as widths and heights, equally many per stride, not {found}")
    return per


def _decoded(arrays: list[Any], args: Args, size: Size) -> list[Any]:
    """Return raw heads as (batch, n, 5 + classes) in pixels, by the formulas of YOLOv5 or YOLOv3."""
    strides, per = args["strides"], _anchor_count(args)
    anchors = np.asarray(args["anchors"], np.float64).reshape(len(strides), per, 2)
    if arrays[0].ndim == 3:
        if size is None:
            raise OutputMismatch("raw heads with three axes need a model whose input has a known size")
        grids = [(int(size[0] / stride), int(size[1] / stride)) for stride in strides]
        ends = np.cumsum([per * h * w for h, w in grids])
        if len(arrays) != 1 or ends[-1] != arrays[0].shape[1]:
            raise OutputMismatch(f"{ends[-1]} positions are expected for strides {strides} and {per} anchors each")
        parts = np.split(arrays[0], ends[:-1], axis=1)
        arrays = [part.reshape(len(part), per, h, w, -1) for part, (h, w) in zip(parts, grids, strict=True)]
    if len(arrays) != len(strides):
        raise OutputMismatch(f"{len(strides)} heads are expected, one per stride")
    found = []
    for array, stride, sizes in zip(arrays, strides, anchors, strict=True):
        head = array
        if array.ndim == 4:
            head = array.reshape(len(array), per, -1, *array.shape[2:]).transpose(0, 1, 3, 4, 2)
        rows, columns = np.indices(head.shape[2:4])
        grid, wide = np.stack([columns, rows], -1), sizes[:, None, None, :]
        soft = sigmoid(head)
        if args.get("decoding", "v5") == "v5":
            centres, extents = (soft[..., :2] * 2 - 0.5 + grid) * stride, (soft[..., 2:4] * 2) ** 2 * wide
        else:
            centres, extents = (soft[..., :2] + grid) * stride, np.exp(np.minimum(head[..., 2:4], 20)) * wide
        found.append(np.concatenate([centres, extents, soft[..., 4:]], -1).reshape(len(head), -1, head.shape[-1]))
    return found
