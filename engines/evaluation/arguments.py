"""The arguments of postprocess methods, and their check."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engines.failures import EngineFailure, FailureReason

_FLAG = (0, 1)
_BOXES: dict[str, Any] = {
    "normalized": _FLAG,
    "score_threshold": 0.0,
    "iou_threshold": 0.0,
    "max_detections": 1,
    "class_agnostic": _FLAG,
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "classification": {"scores": "", "label_offset": 0},
    "multi_classification": {"scores": [""], "label_offset": 0},
    "detection": {
        **dict.fromkeys(("boxes", "scores", "labels", "count"), ""),
        "activation": ("none", "sigmoid", "softmax"),
        "label_offset": 0,
        "box_format": ("xyxy", "yxyx", "xywh", "cxcywh"),
        **_BOXES,
    },
    "yolo": {
        "outputs": [""],
        "head": ("anchor", "anchor_free"),
        "decoded": _FLAG,
        "anchors": [0.0],
        "strides": [0.0],
        "decoding": ("v5", "v3"),
        "num_classes": 1,
        "multi_label": _FLAG,
        **_BOXES,
    },
    "heads": {
        **{name: [""] for name in ("scores", "boxes", "centerness", "objectness")},
        "proposals": "",
        "activation": ("sigmoid", "softmax", "none"),
        "decoding": ("deltas", "distances", "points"),
        **{name: [0.0] for name in ("strides", "base_anchors", "means", "stds", "log_range")},
        "anchor_counts": [0],
        "offset": 0.0,
        "multi_label": _FLAG,
        "candidates": 0,
        "clip": ("before", "after", "never"),
        **{name: value for name, value in _BOXES.items() if name != "normalized"},
    },
    "embedding": {"vector": "", "pooling": ("none", "mean", "first"), "normalize": _FLAG},
    "raw": {},
}
"""Arguments by method: an example of the type, or a tuple of all values. `engines.postprocess` documents them."""

_KINDS = {str: "a string", int: "an integer", float: "a number", list: "a list"}
_AT_LEAST = {"max_detections": 1, "num_classes": 1, "label_offset": 0, "candidates": 0}
_LENGTHS = {"means": 4, "stds": 4, "log_range": 2}


def check_arguments(method: str, args: Mapping[str, Any]) -> None:
    """Reject an unknown method and arguments that it does not take.

    Raises:
        EngineFailure: INVALID_SPEC naming the argument and its allowed values.
    """
    known = ARGUMENTS.get(method)
    if known is None:
        raise _bad(f"There is no postprocess method '{method}'. The methods are: {', '.join(ARGUMENTS)}.")
    for name, value in args.items():
        if name not in known:
            raise _bad(f"The method {method} has no argument '{name}'. Its arguments: {', '.join(known) or 'none'}.")
        _check_value(name, value, known[name])


def _check_value(name: str, value: Any, example: Any) -> None:
    if isinstance(example, tuple):
        if value not in example:
            raise _bad(f"The argument '{name}' is {value!r}; it must be one of {', '.join(map(str, example))}.")
        return
    if not _alike(value, example):
        of = f" with each element {_KINDS[type(example[0])]}" if isinstance(example, list) else ""
        raise _bad(f"The argument '{name}' is {value!r}; it must be {_KINDS[type(example)]}{of}.")
    if name.endswith("_threshold") and not 0 <= value <= 1:
        raise _bad(f"The argument '{name}' is {value}; it must be between 0 and 1.")
    if name == "iou_threshold" and value == 0:
        raise _bad("The argument 'iou_threshold' is 0; it must be over 0 and at most 1, which suppresses nothing.")
    if name in _AT_LEAST and value < _AT_LEAST[name]:
        raise _bad(f"The argument '{name}' is {value}; it must be at least {_AT_LEAST[name]}.")
    if name in _LENGTHS and len(value) != _LENGTHS[name]:
        raise _bad(f"The argument '{name}' is {value}; it must be {_LENGTHS[name]} numbers.")
    if name in {"anchors", "strides"} and not (value and all(0 < entry < 1e6 for entry in value)):
        raise _bad(f"The argument '{name}' is {value}; it must be a list of numbers over 0.")


def _alike(value: Any, example: Any) -> bool:
    if isinstance(example, list):
        return isinstance(value, list) and all(_alike(entry, example[0]) for entry in value)
    if isinstance(example, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(example)


def _bad(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message)
