"""Detectors of Detectron2 as networks: their raw heads, and how boxes come from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engines.formats.detectors.two_stage import OUTPUTS, Pooling, Proposing, Stages, two_stage_network
from engines.formats.detectron2.parts import LOG_RANGE, anchors_of, deltas, unsupported

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class RawDetector:
    """A detector that was built: its network, the network's outputs, and how boxes come from them."""

    network: torch.nn.Module
    outputs: tuple[str, ...]
    args: dict[str, Any]
    two_stage: bool


def raw_detector(detector: Any) -> RawDetector:
    """Return a detector as its network.

    Raises:
        EngineFailure: INVALID_MODEL for a detector whose boxes Lathe does not compute.
    """
    from detectron2.modeling.meta_arch import GeneralizedRCNN, RetinaNet

    if type(detector) is RetinaNet:
        return _retinanet(detector)
    if type(detector) is GeneralizedRCNN:
        return _faster_rcnn(detector)
    raise unsupported(detector, "is another detector than RetinaNet and Faster R-CNN")


def _retinanet(detector: Any) -> RawDetector:
    import torch

    anchors = anchors_of(detector.anchor_generator)
    outputs = tuple(f"{role}_{level}" for role in ("scores", "boxes") for level in range(len(anchors)))

    class RawHeads(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = detector

        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            features = self.network.backbone(image)
            scores, boxes = self.network.head([features[name] for name in self.network.head_in_features])
            return (*scores, *boxes)

    args = {
        "strides": [float(stride) for stride in detector.anchor_generator.strides],
        "base_anchors": [float(value) for level in anchors for value in level.flatten().tolist()],
        "anchor_counts": [len(level) for level in anchors],
        **deltas(detector.box2box_transform, detector),
        "score_threshold": float(detector.test_score_thresh),
        "candidates": int(detector.test_topk_candidates),
        "iou_threshold": float(detector.test_nms_thresh),
        "max_detections": int(detector.max_detections_per_image),
        "clip": "after",
    }
    return RawDetector(RawHeads().eval(), outputs, args, two_stage=False)


def _faster_rcnn(detector: Any) -> RawDetector:
    from detectron2.modeling.proposal_generator import RPN
    from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads

    first, second = detector.proposal_generator, detector.roi_heads
    for part, kind in ((first, RPN), (second, StandardROIHeads)):
        if type(part) is not kind:
            raise unsupported(part, "is another stage than Faster R-CNN's")
    predictor = second.box_predictor
    if second.mask_on or second.keypoint_on or type(predictor) is not FastRCNNOutputLayers:
        raise unsupported(second, "has masks, keypoints or a predictor of its own")
    if getattr(predictor, "use_sigmoid_ce", False) or float(first.min_box_size) > 0:
        raise unsupported(predictor, "scores or filters boxes in another way")
    pooled = list(second.box_in_features)
    if pooled != list(first.in_features)[: len(pooled)]:
        raise unsupported(second, "pools other features than those that proposals come from")
    anchors, coded = anchors_of(first.anchor_generator), deltas(first.box2box_transform, first)
    proposing = Proposing(
        [level.clone() for level in anchors],
        [float(stride) for stride in first.anchor_generator.strides],
        coded["means"],
        coded["stds"],
        LOG_RANGE,
        int(first.pre_nms_topk[False]),
        float(first.nms_thresh),
        int(first.post_nms_topk[False]),
    )
    proposals, scores, boxes = OUTPUTS
    args = {
        "proposals": proposals,
        "scores": [scores],
        "boxes": [boxes],
        "activation": "softmax",
        **deltas(predictor.box2box_transform, predictor),
        "score_threshold": float(predictor.test_score_thresh),
        "iou_threshold": float(predictor.test_nms_thresh),
        "max_detections": int(predictor.test_topk_per_image),
        "clip": "before",
    }
    network = two_stage_network(detector, Stages(_features, _first, _second), proposing, _pooling(second.box_pooler))
    return RawDetector(network, OUTPUTS, args, two_stage=True)


def _features(detector: Any, image: torch.Tensor) -> Any:
    found = detector.backbone(image)
    return [found[name] for name in detector.proposal_generator.in_features]


def _first(detector: Any, features: Any) -> Any:
    return detector.proposal_generator.rpn_head(features)


def _second(detector: Any, pooled: torch.Tensor) -> Any:
    heads = detector.roi_heads
    return heads.box_predictor(heads.box_head(pooled))


def _pooling(pooler: Any) -> Pooling:
    layers = list(pooler.level_poolers)
    if {type(layer).__name__ for layer in layers} != {"ROIAlign"}:
        raise unsupported(pooler, "is no RoIAlign")
    size, canonical, low, high = (
        pooler.canonical_box_size,
        pooler.canonical_level,
        pooler.min_level,
        pooler.max_level,
    )

    def level_of(sides: torch.Tensor) -> torch.Tensor:
        level: torch.Tensor = (canonical + (sides / size + 1e-8).log2()).floor().clamp(low, high) - low
        return level

    return Pooling(
        tuple(layers[0].output_size),
        [float(layer.spatial_scale) for layer in layers],
        int(layers[0].sampling_ratio),
        bool(layers[0].aligned),
        level_of,
    )
