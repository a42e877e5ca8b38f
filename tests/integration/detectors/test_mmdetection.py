"""Detectors of MMDetection, built by MMDetection itself with random weights: its own predictions are the truth."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.detectors import torchvision_here
from tests.integration.detectors.workbench import HEIGHT, WIDTH, Converted, assert_equal, convert, enliven, picture

pytestmark = [
    pytest.mark.mmdetection,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(
        importlib.util.find_spec("mmdet") is None,
        reason="mmengine, mmcv-lite and mmdet are not installed (pip install '.[mmdetection]')",
    ),
]
CLASSES = tuple(f"thing {number}" for number in range(80))


@pytest.fixture(scope="module", autouse=True)
def toolbox(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prepare MMDetection, whose predictions need two operators that mmcv-lite lacks: torchvision's stand in."""
    from engines.formats.mmdetection.toolbox import toolbox

    if why := torchvision_here.missing(tmp_path_factory.mktemp("torchvision")):
        pytest.skip(why)
    import torchvision

    toolbox()
    compiled = importlib.import_module("mmcv._ext")

    def nms(boxes: Any, scores: Any, iou_threshold: float, offset: int) -> Any:
        assert offset == 0
        return torchvision.ops.nms(boxes, scores, iou_threshold)

    def roi_align(features: Any, rois: Any, output: Any, *_: Any, **how: Any) -> None:
        size = how["aligned_height"], how["aligned_width"]
        settings = how["spatial_scale"], how["sampling_ratio"], how["aligned"]
        output.copy_(torchvision.ops.roi_align(features, rois, size, *settings))

    vars(compiled).update(nms=nms, roi_align_forward=roi_align)


def packaged(name: str) -> Path:
    import mmdet

    return Path(mmdet.__file__).parent / ".mim/configs" / name


def trained(name: str, folder: Path, layers: Callable[[Any], dict[Any, float]], **settings: Any) -> Any:
    """Write a configuration of MMDetection and a checkpoint of mmengine for it; return the detector.

    Args:
        name: One of its own configurations.
        folder: The upload.
        layers: The last layers of the detector, as `enliven` takes them.
        settings: Settings of the configuration, by dotted name with `__` for the dots.
    """
    import torch
    from mmengine.config import Config
    from mmengine.logging import HistoryBuffer
    from mmengine.registry import MODELS

    folder.mkdir(parents=True)
    config = Config.fromfile(packaged(name))
    config.merge_from_dict({key.replace("__", "."): value for key, value in settings.items()})
    config.dump(folder / "config.py")
    config.model.backbone.init_cfg = None
    torch.manual_seed(0)
    detector = MODELS.build(config.model).eval()
    enliven(lambda: predicted(detector, picture(9)), layers(detector))
    losses = HistoryBuffer()
    losses.update(1.0)
    checkpoint = {
        "meta": {"epoch": 1, "cfg": config.pretty_text, "dataset_meta": {"classes": CLASSES}},
        "state_dict": detector.state_dict(),
        "message_hub": {"log_scalars": {"train/loss": losses}},
    }
    torch.save(checkpoint, folder / "epoch_1.pth")
    return detector


def predicted(detector: Any, pixels: Any) -> tuple[Any, Any, Any]:
    """Return boxes, scores and labels as MMDetection itself predicts them, from BGR pixels as its pipeline loads."""
    import torch
    from mmdet.structures import DetDataSample

    sample = DetDataSample(metainfo={"img_shape": (HEIGHT, WIDTH), "scale_factor": (1.0, 1.0)})
    image = torch.from_numpy(pixels[0, ::-1].copy())
    data = detector.data_preprocessor({"inputs": [image], "data_samples": [sample]}, training=False)
    with torch.inference_mode():
        found = detector.predict(data["inputs"], data["data_samples"], rescale=False)[0].pred_instances
    return found.bboxes.numpy(), found.scores.numpy(), found.labels.numpy()


def check(detector: Any, converted: Converted) -> None:
    assert converted.parity["verdict"] == "PASS"
    assert converted.manifest.method == "heads"
    assert converted.manifest.taxonomies[0].classes == CLASSES
    count = 0
    for seed in range(3):
        pixels = picture(seed)
        boxes, scores, labels = predicted(detector, pixels)
        assert_equal(converted.find(pixels), boxes, scores, labels)
        count += len(boxes)
    assert count > 30


def test_retinanet(tmp_path: Path) -> None:
    def layers(detector: Any) -> dict[Any, float]:
        return {detector.bbox_head.retina_cls: 1.0, detector.bbox_head.retina_reg: 0.3}

    detector = trained("retinanet/retinanet_r18_fpn_1x_coco.py", tmp_path / "source", layers)
    converted = convert("MMDETECTION", tmp_path)
    check(detector, converted)
    steps = converted.manifest.components[0].preprocessing["image"]
    assert steps.mean_values == (123.675, 116.28, 103.53)
    assert (converted.package / "configuration/config.py").is_file()


def test_yolox(tmp_path: Path) -> None:
    def layers(detector: Any) -> dict[Any, float]:
        head = detector.bbox_head
        found = dict.fromkeys([*head.multi_level_conv_obj, *head.multi_level_conv_cls], 2.0)
        return found | dict.fromkeys(head.multi_level_conv_reg, 0.5)

    detector = trained("yolox/yolox_tiny_8xb8-300e_coco.py", tmp_path / "source", layers)
    check(detector, convert("MMDETECTION", tmp_path))


def test_faster_rcnn(tmp_path: Path) -> None:
    def layers(detector: Any) -> dict[Any, float]:
        first, second = detector.rpn_head, detector.roi_head.bbox_head
        return {first.rpn_cls: 2.0, first.rpn_reg: 0.5, second.fc_cls: 3.0, second.fc_reg: 1.0}

    small = {"model__backbone__depth": 18, "model__neck__in_channels": [64, 128, 256, 512]}
    detector = trained("faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", tmp_path / "source", layers, **small)
    check(detector, convert("MMDETECTION", tmp_path))


def test_a_base_of_the_toolbox_itself(tmp_path: Path) -> None:
    """A small configuration that builds on one of MMDetection's own, with a head that Lathe makes no boxes from."""
    from engines.failures import EngineFailure

    trained("gfl/gfl_r50_fpn_1x_coco.py", tmp_path / "source", lambda _: {})
    (tmp_path / "source/config.py").write_text("_base_ = 'mmdet::gfl/gfl_r50_fpn_1x_coco.py'\n")
    with pytest.raises(EngineFailure, match="'GFLHead' decodes its boxes in a way of its own") as raised:
        convert("MMDETECTION", tmp_path)
    assert "--set method=raw" in raised.value.suggested_fix
