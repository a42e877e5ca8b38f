"""Detectors of Detectron2, built by Detectron2 itself with random weights: its own predictions are the truth."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.integration.detectors import torchvision_here
from tests.integration.detectors.workbench import (
    HEIGHT,
    WIDTH,
    Converted,
    assert_equal,
    convert,
    enliven,
    picture,
)

pytestmark = [
    pytest.mark.detectron2,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(importlib.util.find_spec("detectron2") is None, reason="Detectron2 is not installed"),
]


@pytest.fixture(scope="module", autouse=True)
def toolbox(tmp_path_factory: pytest.TempPathFactory) -> None:
    if why := torchvision_here.missing(tmp_path_factory.mktemp("torchvision")):
        pytest.skip(why)


def small(folder: Path, **settings: Any) -> Any:
    """Write the configuration of a detector with a small backbone, as training writes it; return the detector."""
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    config = get_cfg()
    config.MODEL.DEVICE = "cpu"
    config.MODEL.RESNETS.DEPTH = 18
    config.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    flat = [part for key, value in settings.items() for part in (key.replace("__", "."), value)]
    config.merge_from_list(flat)
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(config.dump(), encoding="utf-8")
    import torch

    torch.manual_seed(0)
    return build_model(config).eval()


def save(detector: Any, folder: Path) -> None:
    import torch

    torch.save({"model": detector.state_dict(), "iteration": 89_999}, folder / "model_final.pth")


def predicted(detector: Any, pixels: Any) -> tuple[Any, Any, Any]:
    """Return boxes, scores and labels as Detectron2 itself predicts them, from BGR pixels as its data loader reads."""
    import torch

    image = torch.from_numpy(pixels[0, ::-1].copy())
    with torch.inference_mode():
        found = detector([{"image": image, "height": HEIGHT, "width": WIDTH}])[0]["instances"]
    return found.pred_boxes.tensor.numpy(), found.scores.numpy(), found.pred_classes.numpy()


def check(detector: Any, converted: Converted) -> None:
    assert converted.parity["verdict"] == "PASS"
    count = 0
    for seed in range(3):
        pixels = picture(seed)
        boxes, scores, labels = predicted(detector, pixels)
        assert_equal(converted.find(pixels), boxes, scores, labels)
        count += len(boxes)
    assert count > 30


def test_retinanet(tmp_path: Path) -> None:
    levels = ["p3", "p4", "p5", "p6", "p7"]
    detector = small(
        tmp_path / "source",
        MODEL__META_ARCHITECTURE="RetinaNet",
        MODEL__BACKBONE__NAME="build_retinanet_resnet_fpn_backbone",
        MODEL__RESNETS__OUT_FEATURES=["res3", "res4", "res5"],
        MODEL__FPN__IN_FEATURES=["res3", "res4", "res5"],
        MODEL__RETINANET__IN_FEATURES=levels,
        MODEL__ANCHOR_GENERATOR__SIZES=[
            [size, size * 1.26, size * 1.587] for size in (32.0, 64.0, 128.0, 256.0, 512.0)
        ],
    )
    head = detector.head
    enliven(lambda: predicted(detector, picture(9)), {head.cls_score: 1.0, head.bbox_pred: 0.3})
    save(detector, tmp_path / "source")
    converted = convert("DETECTRON2", tmp_path)
    check(detector, converted)
    assert converted.manifest.components[0].preprocessing["image"].mean_values == (103.53, 116.28, 123.675)


def test_faster_rcnn(tmp_path: Path) -> None:
    detector = small(
        tmp_path / "source",
        MODEL__META_ARCHITECTURE="GeneralizedRCNN",
        MODEL__BACKBONE__NAME="build_resnet_fpn_backbone",
        MODEL__RESNETS__OUT_FEATURES=["res2", "res3", "res4", "res5"],
        MODEL__FPN__IN_FEATURES=["res2", "res3", "res4", "res5"],
        MODEL__RPN__IN_FEATURES=["p2", "p3", "p4", "p5", "p6"],
        MODEL__RPN__PRE_NMS_TOPK_TEST=1000,
        MODEL__ANCHOR_GENERATOR__SIZES=[[32], [64], [128], [256], [512]],
        MODEL__ROI_HEADS__NAME="StandardROIHeads",
        MODEL__ROI_HEADS__IN_FEATURES=["p2", "p3", "p4", "p5"],
        MODEL__ROI_BOX_HEAD__NAME="FastRCNNConvFCHead",
        MODEL__ROI_BOX_HEAD__NUM_FC=2,
        MODEL__ROI_BOX_HEAD__POOLER_RESOLUTION=7,
    )
    first, second = detector.proposal_generator.rpn_head, detector.roi_heads.box_predictor
    layers = {first.objectness_logits: 2.0, first.anchor_deltas: 0.5, second.cls_score: 3.0, second.bbox_pred: 1.0}
    enliven(lambda: predicted(detector, picture(9)), layers)
    save(detector, tmp_path / "source")
    check(detector, convert("DETECTRON2", tmp_path))
