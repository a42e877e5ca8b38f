"""COCO's figures from cached matches equal those of pycocotools, and draws of images those of repeated images."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from engines.evaluation.box_matches import AREAS, Matcher
from engines.evaluation.detection import thresholds
from engines.evaluation.precision_recall import (
    RECALLS,
    average_precision,
    average_recall,
    interpolated_precision,
)
from engines.evaluation.predictions import DetectedBox, TrueBox

Image = tuple[list[TrueBox], list[DetectedBox]]
CLASSES = 3


def scenes(seed: int, count: int) -> list[Image]:
    """Images with small, medium and large objects, crowds, near misses, double hits and equal scores."""
    random = np.random.default_rng(seed)
    images: list[Image] = []
    for _ in range(count):
        truths, found = [], []
        for _ in range(random.integers(0, 6)):
            label = int(random.integers(0, CLASSES))
            side = float(random.choice([12, 30, 60, 90, 150]))
            x, y, w, h = *random.uniform(0, 300, 2), side * random.uniform(0.6, 1.2), side
            area = w * h * random.uniform(0.5, 1)
            truths.append(TrueBox(label, x, y, w, h, area, crowd=bool(random.random() < 0.1)))
            for _ in range(random.integers(0, 3)):
                shift = random.normal(0, 0.12, 4) * side
                other = label if random.random() < 0.85 else int(random.integers(0, CLASSES))
                score = round(float(random.random()), 2)
                found.append(
                    DetectedBox(other, score, x + shift[0], y + shift[1], w + abs(shift[2]), h + abs(shift[3]))
                )
        for _ in range(random.integers(0, 3)):
            label, score = int(random.integers(0, CLASSES)), round(float(random.random()), 2)
            found.append(DetectedBox(label, score, *random.uniform(0, 300, 2), *random.uniform(5, 150, 2)))
        images.append((truths, found))
    return images


def pycocotools(images: Sequence[Image], values: Sequence[float]) -> Any:
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, (truths, found) in enumerate(images, 1):
        for box in truths:
            place = {"bbox": [box.x, box.y, box.width, box.height], "area": box.area, "iscrowd": int(box.crowd)}
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": box.label + 1, **place})
        for hit in found:
            place = {"bbox": [hit.x, hit.y, hit.width, hit.height], "score": hit.score}
            results.append({"image_id": number, "category_id": hit.label + 1, **place})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = {
            "images": [{"id": number} for number in range(1, len(images) + 1)],
            "annotations": annotations,
            "categories": [{"id": label + 1} for label in range(CLASSES)],
        }
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.params.iouThrs = np.array(values)
        evaluation.evaluate()
        evaluation.accumulate()
        if len(values) == 10:
            evaluation.summarize()
    return evaluation


def matched(images: Sequence[Image], values: Sequence[float]) -> Matcher:
    matcher = Matcher(values)
    for truths, found in images:
        matcher.add(truths, found)
    return matcher


@pytest.mark.parametrize("seed", range(6))
def test_figures_are_those_of_pycocotools(seed: int) -> None:
    images = scenes(seed, 40)
    values = thresholds([0.6, 0.62] if seed % 2 else [])
    reference = pycocotools(images, values)
    matcher, weights = matched(images, values), np.ones((1, len(images)))
    for label in range(CLASSES):
        matches = matcher.matches(label)
        for number, area in enumerate(AREAS):
            expected = reference.eval["precision"][:, :, label, number, 2]
            if expected.max() < 0:
                assert np.isnan(average_precision(matches, weights, area)).all()
                continue
            np.testing.assert_allclose(average_precision(matches, weights, area)[0], expected.mean(1), atol=1e-6)
            np.testing.assert_allclose(interpolated_precision(matches, weights[0], area), expected, atol=1e-6)
            for place, most in enumerate((1, 10, 100)):
                recall = reference.eval["recall"][:, label, number, place]
                np.testing.assert_allclose(average_recall(matches, weights, area, most)[0], recall, atol=1e-6)


def test_a_draw_is_what_repeated_images_give() -> None:
    images, values = scenes(7, 12), thresholds([])
    drawn = np.random.default_rng(0).integers(0, 12, 12)
    counts = np.bincount(drawn, minlength=12).astype(float)
    matcher = matched(images, values)
    reference = pycocotools([images[number] for number in np.sort(drawn)], values)
    for label in range(CLASSES):
        for number, area in enumerate(AREAS):
            expected = reference.eval["precision"][:, :, label, number, 2]
            found = average_precision(matcher.matches(label), np.stack([counts, counts]), area)
            if expected.max() >= 0:
                np.testing.assert_allclose(found[1], expected.mean(1), atol=1e-6)


def test_a_part_of_the_images_is_evaluated_on_its_own() -> None:
    images, values = scenes(3, 30), thresholds([])
    chosen = np.arange(30) % 3 == 0
    matcher = matched(images, values)
    alone = matched([image for image, taken in zip(images, chosen, strict=True) if taken], values)
    for label in range(CLASSES):
        part = average_precision(matcher.matches(label).within(chosen), chosen[None].astype(float))
        np.testing.assert_array_equal(part, average_precision(alone.matches(label), np.ones((1, 10))))


def test_images_are_right_or_wrong_on_their_own() -> None:
    matcher = Matcher(thresholds([]))
    truth = TrueBox(0, 10, 10, 20, 20, 400.0)
    hit = DetectedBox(0, 0.9, 11, 10, 20, 20)
    right = matcher.add([truth], [hit])
    assert right.correct
    assert right.loss == pytest.approx(0.1)
    missed = matcher.add([truth], [])
    assert (missed.loss, missed.correct) == (1.0, False)
    false = matcher.add([], [hit])
    assert (false.loss, false.correct) == (0.9, False)
    empty = matcher.add([], [])
    assert (empty.loss, empty.correct) == (0.0, True)
    crowd = matcher.add([TrueBox(0, 0, 0, 60, 60, 3600.0, crowd=True)], [hit])
    assert (crowd.loss, crowd.correct) == (0.0, True)
    assert matcher.images == 5
    assert len(RECALLS) == 101
