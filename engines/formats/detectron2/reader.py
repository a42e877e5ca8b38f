"""Reads detectors of Detectron2: its configuration builds the network, and the checkpoint has the weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines.failures import EngineFailure, FailureReason, first_line
from engines.formats.detectors.statement import Images, Statement, with_image, with_statement
from engines.formats.detectors.two_stage import (
    OUTPUTS,
    Pooling,
    Proposing,
    Stages,
    check_batch,
    two_stage_network,
)
from engines.formats.detectron2.config_files import DetectorFiles
from engines.formats.protocol import not_installed
from engines.formats.pytorch.checkpoint import load_state_dict
from engines.formats.pytorch.weights import load_weights
from engines.formats.source import Source
from engines.formats.torch_export.module_source import module_source
from engines.spec.open_axes import Declared
from engines.spec.template import Component, Template
from engines.tensors import Array

if TYPE_CHECKING:
    import torch

_WEIGHTS = "model"
"""Key of the weights in a checkpoint of Detectron2."""
_LOG = (-math.inf, math.log(1000 / 16))
"""Range of the logarithms of sizes: Detectron2 limits growth alone."""
_LARGEST_SHRINKING = -60.0
"""The same lower end as a number that JSON has: e to the power of it is nothing."""


@dataclass(frozen=True)
class _Detector:
    """A detector that was built: its network, the network's outputs, and how boxes come from them."""

    detector: Any
    network: torch.nn.Module
    outputs: tuple[str, ...]
    args: dict[str, Any]
    two_stage: bool


def stated(files: DetectorFiles, template: Template) -> Template:
    """Return the template with what the detector says of its outputs. It does not say the names of its classes.

    Raises:
        EngineFailure: as `read`.
    """
    return with_statement(template, Statement(_built(_build(_load_config(files))).args))


def declared(files: DetectorFiles, component: Component) -> Declared:
    """Return the component with the image that the configuration says: the largest of its tests.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE; INVALID_MODEL for the configuration.
    """
    config = _load_config(files)
    longest, shortest = int(config.INPUT.MAX_SIZE_TEST), int(config.INPUT.MIN_SIZE_TEST)
    divisor = 32
    height, width = (-(-extent // divisor) * divisor for extent in (shortest or longest, longest))
    mean, std = (tuple(map(float, values)) for values in (config.MODEL.PIXEL_MEAN, config.MODEL.PIXEL_STD))
    return with_image(component, Images(height, width, mean, std, str(config.INPUT.FORMAT), divisor))


def read(files: DetectorFiles, component: Component, arguments: Sequence[Array], onnx_path: Path) -> Source:
    """Return the raw heads of a detector as a source.

    Raises:
        EngineFailure: TOOLCHAIN_UNAVAILABLE, INVALID_MODEL, UNSAFE_MODEL, WEIGHTS_MISMATCH; as `module_source`.
    """
    detector = _build(_load_config(files))
    weights = load_state_dict(
        files.checkpoint,
        component.state_dict_key,
        usual=_WEIGHTS,
        expected=detector.state_dict(),
        component=component.name,
    )
    # Pixels' mean and deviation are kept with the weights by old releases; the configuration says them.
    load_weights(detector, {key: value for key, value in weights.items() if not key.startswith("pixel_")})
    built = _built(detector)
    if built.two_stage:
        check_batch(component)
    source = module_source(
        built.network,
        component,
        arguments,
        onnx_path,
        output_names=built.outputs,
        companions={f"configuration/{files.config.name}": files.config},
    )
    # Suppression and pooling are operators of torchvision, which what serves a torch network does not have.
    return replace(source, module=None) if built.two_stage else source


def _load_config(files: DetectorFiles) -> Any:
    try:
        from detectron2.config import get_cfg
    except ImportError as error:
        failure = not_installed("Detectors of Detectron2", "detectron2", "detectron2", error)
        failure.suggested_fix += " Detectron2's own source goes beside it: the image worker-detectron2 has both."
        raise failure from error
    config = get_cfg()
    try:
        config.merge_from_file(str(files.config), allow_unsafe=False)
    except (Exception, SystemExit) as error:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"Detectron2 cannot read '{files.config.name}': {type(error).__name__}: {first_line(error)}",
        ) from error
    config.MODEL.DEVICE, config.MODEL.WEIGHTS = "cpu", ""
    if config.INPUT.FORMAT not in {"RGB", "BGR"}:
        raise EngineFailure(
            FailureReason.INVALID_MODEL, f"INPUT.FORMAT is '{config.INPUT.FORMAT}'; Lathe reads RGB and BGR."
        )
    return config


def _build(config: Any) -> torch.nn.Module:
    from detectron2.modeling import build_model

    try:
        detector: torch.nn.Module = build_model(config)
    except (Exception, SystemExit) as error:
        raise EngineFailure(
            FailureReason.INVALID_MODEL,
            f"Detectron2 cannot build '{config.MODEL.META_ARCHITECTURE}': {type(error).__name__}: {first_line(error)}",
        ) from error
    return detector.eval().requires_grad_(requires_grad=False)


def _built(detector: Any) -> _Detector:
    from detectron2.modeling.meta_arch import GeneralizedRCNN, RetinaNet

    if type(detector) is RetinaNet:
        return _retinanet(detector)
    if type(detector) is GeneralizedRCNN:
        return _faster_rcnn(detector)
    raise _unsupported(detector, "is another detector than RetinaNet and Faster R-CNN")


def _retinanet(detector: Any) -> _Detector:
    import torch

    anchors = _anchors(detector.anchor_generator)
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
        **_deltas(detector.box2box_transform, detector),
        "score_threshold": float(detector.test_score_thresh),
        "candidates": int(detector.test_topk_candidates),
        "iou_threshold": float(detector.test_nms_thresh),
        "max_detections": int(detector.max_detections_per_image),
        "clip": "after",
    }
    return _Detector(detector, RawHeads().eval(), outputs, args, two_stage=False)


def _faster_rcnn(detector: Any) -> _Detector:
    from detectron2.modeling.proposal_generator import RPN
    from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads

    first, second = detector.proposal_generator, detector.roi_heads
    for part, kind in ((first, RPN), (second, StandardROIHeads)):
        if type(part) is not kind:
            raise _unsupported(part, "is another stage than Faster R-CNN's")
    predictor = second.box_predictor
    if second.mask_on or second.keypoint_on or type(predictor) is not FastRCNNOutputLayers:
        raise _unsupported(second, "has masks, keypoints or a predictor of its own")
    if getattr(predictor, "use_sigmoid_ce", False) or float(first.min_box_size) > 0:
        raise _unsupported(predictor, "scores or filters boxes in another way")
    pooled = list(second.box_in_features)
    if pooled != list(first.in_features)[: len(pooled)]:
        raise _unsupported(second, "pools other features than those that proposals come from")
    anchors, coded = _anchors(first.anchor_generator), _deltas(first.box2box_transform, first)
    proposing = Proposing(
        [level.clone() for level in anchors],
        [float(stride) for stride in first.anchor_generator.strides],
        coded["means"],
        coded["stds"],
        _LOG,
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
        **_deltas(predictor.box2box_transform, predictor),
        "score_threshold": float(predictor.test_score_thresh),
        "iou_threshold": float(predictor.test_nms_thresh),
        "max_detections": int(predictor.test_topk_per_image),
        "clip": "before",
    }
    network = two_stage_network(detector, Stages(_features, _first, _second), proposing, _pooling(second.box_pooler))
    return _Detector(detector, network, OUTPUTS, args, two_stage=True)


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
        raise _unsupported(pooler, "is no RoIAlign")
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


def _anchors(generator: Any) -> list[torch.Tensor]:
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator

    if type(generator) is not DefaultAnchorGenerator:
        raise _unsupported(generator, "makes anchors in a way of its own")
    shifts = [generator.offset * stride for stride in generator.strides]
    return [anchors + shift for anchors, shift in zip(generator.cell_anchors, shifts, strict=True)]


def _deltas(transform: Any, part: Any) -> dict[str, Any]:
    from detectron2.modeling.box_regression import Box2BoxTransform

    if type(transform) is not Box2BoxTransform:
        raise _unsupported(part, f"decodes boxes by {type(transform).__name__}")
    return {
        "decoding": "deltas",
        "means": [0.0] * 4,
        "stds": [1 / float(weight) for weight in transform.weights],
        "log_range": [_LARGEST_SHRINKING, float(transform.scale_clamp)],
    }


def _unsupported(part: Any, what: str) -> EngineFailure:
    return EngineFailure(
        FailureReason.INVALID_MODEL,
        f"'{type(part).__name__}' {what}, which Lathe does not compute.",
        node=type(part).__name__,
        suggested_fix="RetinaNet and Faster R-CNN without masks are read. Export others to ONNX with Detectron2's "
        "TracingAdapter, and upload that.",
    )
