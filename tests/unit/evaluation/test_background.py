"""Images without an object of the model's classes count: boxes found in them are wrong, as in pycocotools."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from engines.imaging import encode_png
from tests.unit.datasets.kit import coco, coco_box, coco_image, imported
from tests.unit.evaluation.kit import SIDE, Desk, detector

NAMES = {1: "cat", 3: "dog", 5: "car"}
FOUND = {
    "both.png": [[10, 60, 30, 80, 230, 0], [50, 60, 170, 170, 200, 1]],
    "car.png": [[50, 60, 120, 110, 250, 0]],
    "empty.png": [[20, 20, 60, 60, 240, 1]],
    "crowd.png": [[0, 0, 150, 150, 220, 1], [11, 61, 33, 82, 100, 0]],
    "bad.png": [[5, 5, 50, 50, 245, 0]],
}
"""The detector's boxes by image: x, y, x, y, score from 0 to 255, number of cat or dog."""


def pixels(found: list[list[int]]) -> bytes:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    for row, entry in enumerate(found):
        image[row, :6] = np.array(entry, np.uint8)[:, None]
    return encode_png(image)


def truth() -> dict[str, Any]:
    boxes = [
        coco_box(1, 1, 1, (10, 60, 20, 20), area=400, iscrowd=0),
        coco_box(2, 1, 3, (50, 60, 120, 110), area=13200, iscrowd=0),
        coco_box(3, 2, 5, (50, 60, 70, 50), area=3500, iscrowd=0),
        coco_box(4, 4, 3, (0, 0, 150, 150), area=22500, iscrowd=1),
        coco_box(5, 4, 1, (10, 60, 20, 20), area=400, iscrowd=0),
    ]
    images = [coco_image(number, name, width=SIDE, height=SIDE) for number, name in enumerate(FOUND, 1)]
    return coco(images, boxes, NAMES)


def pycocotools(annotations: dict[str, Any]) -> float:
    results = [
        {"image_id": number, "category_id": (1, 3)[label], "bbox": [x, y, right - x, low - y], "score": score / 255}
        for number, found in enumerate(FOUND.values(), 1)
        if any(entry["id"] == number for entry in annotations["images"])
        for x, y, right, low, score, label in found
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        whole = COCO()
        whole.dataset = annotations
        whole.createIndex()
        judge = COCOeval(whole, whole.loadRes(results), "bbox")
        judge.params.catIds = [1, 3]
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0])


def test_images_of_other_classes_stay_as_background(desk: Desk) -> None:
    bad = coco_box(6, 5, 3, [])
    told = truth()
    files: dict[str, bytes | str] = {name: pixels(found) for name, found in FOUND.items()}
    files["x.json"] = json.dumps(told | {"annotations": [*told["annotations"], bad]})
    mapping = {"entries": [{"task": "object", "key": "label", "classes": ["cat", "dog"]}]}
    result = imported(desk.folder, files, mapping=mapping, accept_mismatches=True)
    report = result["report"]
    assert (report["items"], report["boxes"], report["dropped_items"]) == (5, 4, 0)
    assert (report["dropped_annotations"], report["dropped_values"][0]["value"]) == (1, "car")
    assert "1 image has no box left after the class mapping; kept as background." in report["warnings"]

    shutil.move(desk.folder / "out", desk.folder / "dataset")
    desk.put_package(detector(), "detection", [("object", ["cat", "dog"])])
    ran = desk.run()
    assert ran.figure("map") == pytest.approx(pycocotools(truth()))
    without = truth()
    without["images"] = [entry for entry in without["images"] if entry["id"] not in {2, 3, 5}]
    assert ran.figure("map") < pycocotools(without)
