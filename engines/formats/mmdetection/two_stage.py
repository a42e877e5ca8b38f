"""Faster R-CNN of MMDetection: the parts of its two stages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engines.formats.detectors.two_stage import OUTPUTS, Pooling, Proposing, Stages, two_stage_network
from engines.formats.mmdetection.dense import deltas, suppression, unsupported

if TYPE_CHECKING:
    import torch

_LOG = 4.135166556742356
"""Logarithm of 1000/16, which both signs of a size's delta are limited to."""


def network_of(detector: Any) -> torch.nn.Module:
    """Return the network of a detector, as `two_stage_network`.

    Raises:
        EngineFailure: INVALID_MODEL for parts other than the plain ones; TOOLCHAIN_UNAVAILABLE without torchvision.
    """
    from mmdet.models.dense_heads import RPNHead
    from mmdet.models.roi_heads import StandardRoIHead
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

    first, second = detector.rpn_head, detector.roi_head
    for part, kind in ((first, RPNHead), (second, StandardRoIHead)):
        if type(part) is not kind:
            raise unsupported(part, "is another stage than Faster R-CNN's")
    if second.with_mask or second.with_shared_head:
        raise unsupported(second, "has a mask or a shared head")
    extractor = second.bbox_roi_extractor
    if type(extractor) is not SingleRoIExtractor:
        raise unsupported(extractor, "takes features in a way of its own")
    return two_stage_network(detector, Stages(_features, _first, _second), _proposing(first), _pooling(extractor))


def arguments_of(detector: Any) -> dict[str, Any]:
    """Return the arguments of the method `heads` by which boxes come from the second stage."""
    head = detector.roi_head.bbox_head
    proposals, scores, boxes = OUTPUTS
    if head.custom_cls_channels:
        raise unsupported(head, "has an activation of its own")
    return {
        "proposals": proposals,
        "scores": [scores],
        "boxes": [boxes],
        "activation": "softmax",
        **deltas(head),
        **suppression(head, detector.roi_head.test_cfg),
    }


def _features(detector: Any, image: torch.Tensor) -> Any:
    return detector.extract_feat(image)


def _first(detector: Any, features: Any) -> Any:
    return detector.rpn_head(features)


def _second(detector: Any, pooled: torch.Tensor) -> Any:
    return detector.roi_head.bbox_head(pooled)


def _proposing(head: Any) -> Proposing:
    settings, coded = head.test_cfg, deltas(head)
    overlap = suppression(head, settings)["iou_threshold"]
    if not head.use_sigmoid_cls or coded["clip"] != "before":
        raise unsupported(head, "scores or clips its proposals in another way")
    generator = head.prior_generator
    return Proposing(
        [anchors.clone() for anchors in generator.base_anchors],
        [float(across) for across, _ in generator.strides],
        coded["means"],
        coded["stds"],
        (-_LOG, _LOG),
        int(settings.nms_pre),
        overlap,
        int(settings.max_per_img),
    )


def _pooling(extractor: Any) -> Pooling:
    layer = extractor.roi_layers[0]
    if type(layer).__name__ != "RoIAlign" or layer.pool_mode != "avg":
        raise unsupported(layer, "is not the mean of RoIAlign")
    count, finest = extractor.num_inputs, extractor.finest_scale

    def level_of(sides: torch.Tensor) -> torch.Tensor:
        level: torch.Tensor = (sides / finest + 1e-6).log2().floor().clamp(0, count - 1)
        return level

    return Pooling(
        tuple(layer.output_size),
        [float(each.spatial_scale) for each in extractor.roi_layers],
        int(layer.sampling_ratio),
        bool(layer.aligned),
        level_of,
    )
