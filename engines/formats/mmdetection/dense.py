"""Detectors of one stage: their raw heads as a network, and how boxes come from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason

if TYPE_CHECKING:
    import torch

_MOST = 10_000
"""Boxes of an image if the toolbox sets no limit."""


def raw_heads(detector: Any, levels: int, roles: Sequence[str]) -> torch.nn.Module:
    """Return a network that takes images and returns the raw heads: all levels of the first role, of the second…"""
    import torch

    class RawHeads(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = detector

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            found = self.network.bbox_head(self.network.extract_feat(image))
            return tuple(part for parts in found[: len(roles)] for part in parts[:levels])

    return RawHeads().eval()


def roles_of(detector: Any) -> tuple[int, tuple[str, ...]]:
    """Return how many levels a detector has, and what its heads are, in the order in which they are returned.

    Raises:
        EngineFailure: INVALID_MODEL if its heads return something else.
    """
    head = detector.bbox_head
    generator = getattr(head, "prior_generator", None)
    levels = getattr(generator, "num_levels", None)
    if levels is None:
        raise unsupported(head, "has no anchors or points")
    return int(levels), ("scores", "boxes", *_third(head))


def arguments_of(detector: Any, names: dict[str, list[str]]) -> dict[str, Any]:
    """Return the arguments of the method `heads` by which boxes come from the raw heads.

    A head is known by the functions that it decodes with: a class that has its own is another one.

    Args:
        detector: The detector.
        names: Names of the outputs, by role.

    Raises:
        EngineFailure: INVALID_MODEL for a head that decodes in another way.
    """
    from mmdet.models.dense_heads import YOLOXHead
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    head, kind = detector.bbox_head, type(detector.bbox_head)
    base = ("predict", "predict_by_feat", "_predict_by_feat_single", "_bbox_post_process")
    own = ("predict_by_feat", "_bbox_decode", "_bbox_post_process")
    strides = [_one(stride, head) for stride in head.prior_generator.strides]
    if all(getattr(kind, name, None) is getattr(YOLOXHead, name) for name in own):
        special = {
            "decoding": "points",
            "multi_label": 0,
            "clip": "never",
            "offset": float(head.prior_generator.offset),
        }
        return {**names, "strides": strides, **special, **suppression(head, {**head.test_cfg, "nms_pre": 0})}
    if not all(getattr(kind, name) is getattr(BaseDenseHead, name) for name in base):
        raise unsupported(head, "decodes its boxes in a way of its own")
    if getattr(getattr(head, "loss_cls", None), "custom_cls_channels", False):
        raise unsupported(head, "has an activation of its own")
    return {
        **names,
        "strides": strides,
        "activation": "sigmoid" if head.use_sigmoid_cls else "softmax",
        **_decoding(head),
        **suppression(head, head.test_cfg),
    }


def suppression(head: Any, settings: Any) -> dict[str, Any]:
    """Return the arguments for what a head does with its boxes at the end.

    Raises:
        EngineFailure: INVALID_MODEL for a suppression other than the plain one.
    """
    nms = settings.get("nms") or {}
    if nms.get("type", "nms") != "nms" or float(settings.get("min_bbox_size", 0) or 0) > 0:
        raise unsupported(head, f"suppresses boxes by '{nms.get('type')}'")
    return {
        "score_threshold": float(settings.get("score_thr", 0.0)),
        "candidates": max(0, int(settings.get("nms_pre", 0))),
        "iou_threshold": float(nms.get("iou_threshold", 0.5)),
        "class_agnostic": int(bool(nms.get("class_agnostic", False))),
        "max_detections": int(settings.get("max_per_img", _MOST)),
    }


def deltas(head: Any) -> dict[str, Any]:
    """Return the arguments for the deltas of a head's coder.

    Raises:
        EngineFailure: INVALID_MODEL for another coder.
    """
    from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder

    coder = head.bbox_coder
    if type(coder) is not DeltaXYWHBBoxCoder or coder.add_ctr_clamp:
        raise unsupported(head, f"decodes boxes by {type(coder).__name__}")
    return {
        "decoding": "deltas",
        "means": list(map(float, coder.means)),
        "stds": list(map(float, coder.stds)),
        "clip": "before" if coder.clip_border else "never",
    }


def unsupported(part: Any, what: str) -> EngineFailure:
    """Return the failure for a part of a detector that Lathe computes no boxes from."""
    return EngineFailure(
        FailureReason.INVALID_MODEL,
        f"'{type(part).__name__}' {what}, which Lathe does not compute.",
        node=type(part).__name__,
        suggested_fix="Detectors with anchors or points of one stage (RetinaNet, ATSS, FCOS, SSD, RTMDet, YOLOX) and "
        "Faster R-CNN are read. Export others to ONNX with their last steps in the graph. A one-stage detector's raw "
        "outputs can be converted without boxes: --set method=raw.",
    )


def _third(head: Any) -> tuple[str, ...]:
    """Return the role of a head's third output, if it has one."""
    from mmdet.models.dense_heads import ATSSHead, FCOSHead, RTMDetHead, YOLOXHead

    if isinstance(head, YOLOXHead):
        return ("objectness",)
    if isinstance(head, FCOSHead) or (isinstance(head, ATSSHead) and not isinstance(head, RTMDetHead)):
        return ("centerness",)
    return ()


def _decoding(head: Any) -> dict[str, Any]:
    from mmdet.models.task_modules.coders import DistancePointBBoxCoder
    from mmdet.models.task_modules.prior_generators import MlvlPointGenerator

    generator, coder = head.prior_generator, head.bbox_coder
    if type(coder) is DistancePointBBoxCoder and type(generator) is MlvlPointGenerator:
        clip = "before" if coder.clip_border else "never"
        return {"decoding": "distances", "offset": float(generator.offset), "clip": clip}
    anchors = getattr(generator, "base_anchors", None)
    if anchors is None:
        raise unsupported(head, f"has places by {type(generator).__name__}")
    if type(coder) is DistancePointBBoxCoder:  # as RTMDet's older heads: distances from an anchor's centre
        raise unsupported(head, "takes distances from anchors")
    return {
        **deltas(head),
        "base_anchors": [float(value) for level in anchors for value in level.flatten().tolist()],
        "anchor_counts": [len(level) for level in anchors],
    }


def _one(stride: Any, head: Any) -> float:
    """Return a stride that is the same in both directions."""
    across, down = (stride, stride) if isinstance(stride, int | float) else stride
    if across != down:
        raise unsupported(head, f"has a stride of {across} across and {down} down")
    return float(across)
