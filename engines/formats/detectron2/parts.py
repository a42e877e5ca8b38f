"""The parts of Detectron2's detectors that all have: anchors, and deltas from them to boxes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason

if TYPE_CHECKING:
    import torch

LOG_RANGE = (-math.inf, math.log(1000 / 16))
"""Range of the logarithms of sizes: Detectron2 limits growth alone."""
_LARGEST_SHRINKING = -60.0
"""The same lower end as a number that JSON has: e to the power of it is nothing."""


def anchors_of(generator: Any) -> list[torch.Tensor]:
    """Return the anchors of each level around a position, x, y, x, y.

    Raises:
        EngineFailure: INVALID_MODEL for another generator.
    """
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator

    if type(generator) is not DefaultAnchorGenerator:
        raise unsupported(generator, "makes anchors in a way of its own")
    shifts = [generator.offset * stride for stride in generator.strides]
    return [anchors + shift for anchors, shift in zip(generator.cell_anchors, shifts, strict=True)]


def deltas(transform: Any, part: Any) -> dict[str, Any]:
    """Return the arguments for the deltas of a transform.

    Args:
        transform: What decodes boxes.
        part: The part of the detector that it belongs to, which a failure names.

    Raises:
        EngineFailure: INVALID_MODEL for another transform.
    """
    from detectron2.modeling.box_regression import Box2BoxTransform

    if type(transform) is not Box2BoxTransform:
        raise unsupported(part, f"decodes boxes by {type(transform).__name__}")
    return {
        "decoding": "deltas",
        "means": [0.0] * 4,
        "stds": [1 / float(weight) for weight in transform.weights],
        "log_range": [_LARGEST_SHRINKING, float(transform.scale_clamp)],
    }


def unsupported(part: Any, what: str) -> EngineFailure:
    """Return the failure for a part of a detector that Lathe computes no boxes from."""
    return EngineFailure(
        FailureReason.INVALID_MODEL,
        f"'{type(part).__name__}' {what}, which Lathe does not compute.",
        node=type(part).__name__,
        suggested_fix="RetinaNet and Faster R-CNN without masks are read. Export others to ONNX with Detectron2's "
        "TracingAdapter, and upload that.",
    )
