"""Detectors, from pixels to COCO's figures."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from engines.datasets.items import Box, Item
from engines.evaluation.feeder import Batch, Sample
from engines.evaluation.predictor import Predictor
from engines.failures import EngineFailure, FailureReason
from engines.imaging import Steps
from tests.unit.evaluation.kit import SIDE, Desk, detector, graph

CLASSES = [("label", ["cat", "dog"])]


def ready(desk: Desk, **args: object) -> None:
    typed = {
        name: {"ss" if isinstance(value, str) else "sf" if isinstance(value, float) else "si": value}
        for name, value in args.items()
    }
    desk.put_package(detector(), "detection", CLASSES, args=typed)


def test_a_perfect_detector_and_one_that_misses_half(desk: Desk) -> None:
    ready(desk)
    for number in range(6):
        scene = "night" if number < 3 else "day"
        small, large = Box("cat", 10, 60, 20, 20), Box("dog", 50, 60, 120, 110)
        found = (
            [[10, 60, 30, 80, 250, 0]] if scene == "night" else [[10, 60, 30, 80, 250, 0], [50, 60, 170, 170, 240, 1]]
        )
        desk.put_boxes(found, [small, large], attributes={"scene": scene})
    ran = desk.run(slices=["scene"], iou_thresholds=[0.5, 0.9], batch_size=4)
    assert ran.figure("map", "scene=day") == pytest.approx(1)
    assert ran.figure("ap/cat") == pytest.approx(1)
    assert ran.figure("ap/dog") == pytest.approx(51 / 101)
    assert ran.figure("map") == pytest.approx((1 + 51 / 101) / 2)
    assert ran.figure("ap_small") == pytest.approx(1)
    assert ran.figure("ap_large") == ran.figure("ap/dog")
    assert ran.figure("ar100") == ran.figure("recall50") == pytest.approx(0.75)
    assert ran.figure("map", "scene=night") == pytest.approx(0.5)
    assert {"ap50", "ap75", "ap90", "ar1", "ar10"} <= {entry.name for entry in ran.report.metrics}
    assert not [entry for entry in ran.report.metrics if entry.name == "ap_medium"]
    low, value, high = ran.interval("ap/dog")
    assert low < value < high
    table = ran.report.detection
    assert table is not None
    assert table.areas == {"small": 6, "medium": 0, "large": 6}
    assert [(entry.name, entry.truths, entry.detections) for entry in table.classes] == [("cat", 6, 6), ("dog", 6, 3)]
    assert [(curve.name, curve.iou) for curve in table.curves] == [
        *(("", iou) for iou in (0.5, 0.75, 0.9)),
        *((name, 0.5) for name in ("cat", "dog")),
    ]
    assert ran.report.main_metric == "map"


def test_rows_hold_boxes_in_the_pixels_of_the_image(desk: Desk) -> None:
    ready(desk)
    desk.put_boxes(
        [[10, 60, 30, 80, 255, 0], [100, 100, 140, 150, 51, 1], [0, 0, 9, 9, 3, 1]], [Box("cat", 10, 60, 20, 20)]
    )
    ran = desk.run(preprocessing=[{"resize": {"height": SIDE, "width": SIDE}}, {"transpose": {"order": [2, 0, 1]}}])
    first, second = ran.rows[0].detections
    assert (first.label, first.score, first.x, first.y, first.width, first.height) == (0, 1.0, 10, 60, 20, 20)
    assert (second.label, second.x, second.width) == (1, 100, 40)
    assert ran.rows[0].truths[0].area == 400
    assert ran.rows[0].correct
    assert ran.rows[0].loss == pytest.approx(0.2)
    worst = ran.report.worst[0]
    assert (worst.truths, worst.detections) == (("cat",), ("cat 1.00", "dog 0.20"))
    picture = Image.open(io.BytesIO(base64.b64decode(worst.image_png)))
    assert picture.size[0] >= SIDE
    assert ran.report.spec.preprocessing[1:] == (
        f"resize to {SIDE} x {SIDE} (height x width)",
        "order the axes 2, 0, 1",
    )


def test_boxes_are_mapped_back_through_the_steps(desk: Desk) -> None:
    """An image of another size is resized; boxes on the input are elsewhere on the image."""
    constant = np.array([[[20, 40, 60, 80, 0.9, 0]]], np.float32)
    from onnx import TensorProto, helper

    nodes = [
        helper.make_node("ReduceMax", ["image"], ["most"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["most", "zero"], ["none"]),
        helper.make_node("Squeeze", ["none", "axis"], ["row"]),
        helper.make_node("Add", ["row", "boxes"], ["found"]),
    ]
    constants = {"zero": np.float32(0), "axis": np.array([3]), "boxes": constant}
    image, found = (TensorProto.FLOAT, ["N", 3, 100, 100]), (TensorProto.FLOAT, ["N", 1, 6])
    desk.put_package(graph(nodes, {"image": image}, {"found": found}, constants), "detection", CLASSES)
    data = io.BytesIO()
    Image.new("RGB", (300, 200), "red").save(data, "PNG")
    desk.put_bytes(data.getvalue(), width=300, height=200, boxes=(Box("cat", 60, 80, 120, 80),))
    ran = desk.run(
        preprocessing=[
            {"resize": {"height": 100, "width": 100}},
            {"cvt_rgb": True},
            {"transpose": {"order": [2, 0, 1]}},
        ]
    )
    assert ran.figure("map") == pytest.approx(1)
    assert ran.rows[0].detections[0].x == pytest.approx(60)
    padded = desk.run(
        preprocessing=[{"equal_resize": {"height": 100, "width": 100}}, {"transpose": {"order": [2, 0, 1]}}]
    )
    assert padded.rows[0].detections[0].y == pytest.approx((40 - 16) * 3, abs=3)


def test_labels_that_are_not_classes_are_left_out_and_reported(desk: Desk) -> None:
    ready(desk)
    desk.put_boxes(
        [[10, 60, 30, 80, 255, 1], [10, 60, 30, 80, 255, 2]], [Box("cat", 10, 60, 20, 20), Box("cow", 0, 0, 9, 9)]
    )
    ran = desk.run()
    assert any("label_offset" in line and line.startswith("1 predicted boxes") for line in ran.report.warnings)
    assert any("1 boxes were left out" in line and "cow (1)" in line for line in ran.report.warnings)
    assert ran.figure("map") == 0.0
    shifted = desk.run(args={"label_offset": {"si": "1"}})
    assert shifted.figure("map") == pytest.approx(1)
    assert shifted.report.spec.args == {"label_offset": 1}


def test_data_without_boxes_gives_only_predictions_and_times(desk: Desk) -> None:
    ready(desk)
    desk.put_boxes([[10, 60, 30, 80, 255, 1]])
    ran = desk.run()
    assert ran.report.metrics == ()
    assert ran.report.main_metric == ""
    assert ran.report.detection is None
    assert ran.rows[0].loss is None
    assert len(ran.rows[0].detections) == 1
    assert "Nothing could be evaluated, because no item is annotated with a class of the model." in ran.report.warnings


def test_a_wrong_threshold_is_rejected(desk: Desk) -> None:
    ready(desk)
    desk.put_boxes([])
    for threshold in (1.5, 0, -1):
        with pytest.raises(EngineFailure, match="must be over 0 and at most 1") as caught:
            desk.run(iou_thresholds=[threshold])
        assert caught.value.reason == FailureReason.INVALID_SPEC
    with pytest.raises(EngineFailure, match=r"'iou_threshold' is 1.5; it must be between 0 and 1"):
        desk.run(args={"iou_threshold": {"sf": 1.5}})


def test_fractions_are_of_the_input_that_an_image_was_brought_to() -> None:
    # Where height and width are free, the size that a model is tuned for is not the one of the call.
    steps = Steps.parse([{"resize": {"height": 50, "width": 400}}, {"transpose": {"order": [2, 0, 1]}}])
    feed = {"image": np.stack([steps.apply(np.zeros((100, 100, 3), np.uint8))]).astype(np.float32)}
    geometry = steps.geometry(100, 100)
    sample = Sample(0, Item("a.png", "0" * 64, 1, 100, 100), geometry)
    outputs = {"found": np.array([[[0.1, 0.2, 0.3, 0.4, 0.9, 0]]], np.float32)}
    predictor = Predictor("detection", {"normalized": 1}, [{"task": "label", "classes": ["cat"]}])
    (found,), _ = predictor.predict(Batch((sample,), feed), outputs)
    np.testing.assert_allclose(found["boxes"], [[40, 10, 120, 20]], rtol=1e-6)
    np.testing.assert_allclose(geometry.to_image(found["boxes"]), [[10, 20, 30, 40]], rtol=1e-6)
