"""Postprocess methods equal the formulas written out box by box."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.postprocess import METHODS, OutputMismatch, check, describe, plain, run
from engines.postprocess.boxes import corners, suppress

LABELS = [{"task": "label", "classes": ["cat", "dog", "cow"]}]


def overlap(one: Any, other: Any) -> float:
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(wide, 0) * max(high, 0)
    sizes = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return float(shared / (sum(sizes) - shared)) if sum(sizes) > shared else 0.0


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.floats(0.1, 0.9), st.integers(1, 12))
def test_suppression_is_greedy_by_score_within_a_class(seed: int, limit: float, most: int) -> None:
    random = np.random.default_rng(seed)
    low = random.uniform(0, 30, (25, 2))
    boxes, groups = np.concatenate([low, low + random.uniform(1, 30, (25, 2))], 1), random.integers(0, 2, 25)
    kept: list[int] = []
    for number in range(25):
        free = all(groups[number] != groups[k] or overlap(boxes[number], boxes[k]) <= limit for k in kept)
        if free and len(kept) < most:
            kept.append(number)
    assert suppress(boxes, groups, limit, most).tolist() == kept


def test_box_formats_are_equivalent() -> None:
    box = np.array([[10.0, 20, 40, 80]])
    np.testing.assert_array_equal(corners(box, "xyxy"), box)
    np.testing.assert_array_equal(corners(np.array([[20.0, 10, 80, 40]]), "yxyx"), box)
    np.testing.assert_array_equal(corners(np.array([[10.0, 20, 30, 60]]), "xywh"), box)
    np.testing.assert_array_equal(corners(np.array([[25.0, 50, 30, 60]]), "cxcywh"), box)


def test_detection_finds_its_outputs_by_name_shape_or_argument() -> None:
    boxes = np.array([[[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.6, 0.7], [0, 0, 1, 1]]], np.float32)
    scores, labels = np.array([[0.2, 0.9, 0.01]], np.float32), np.array([[1, 3, 2]], np.int64)
    args: dict[str, Any] = {"normalized": 1, "label_offset": 1}
    for outputs in (
        {"labels": labels, "boxes": boxes, "scores": scores},
        {"a": boxes, "b": scores, "c": labels},
        {"a": boxes[0], "b": scores[0], "c": labels[0]},
    ):
        (found,) = run("detection", args, outputs, LABELS, (100, 200))
        np.testing.assert_allclose(found["boxes"], [[100, 50, 120, 70], [20, 20, 60, 40]], rtol=1e-6)
        assert found["labels"].tolist() == [2, 0]
        assert found["scores"] == pytest.approx([0.9, 0.2])
    named = {"x": labels, "y": scores, "z": boxes, "n": np.array([1])}
    args |= {"boxes": "z", "scores": "y", "labels": "x", "count": "n"}
    assert run("detection", args, named, LABELS, (100, 200))[0]["labels"].tolist() == [0]


def test_detection_takes_a_score_per_class_and_suppresses_on_request() -> None:
    logits = np.array([[[4.0, 0, 0, 9], [3.9, 0, 0, -9], [-9, -9, -9, 9]]], np.float32)
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 9, 9]]], np.float32)
    outputs = {"logits": logits, "boxes": boxes}
    found = run("detection", {"activation": "softmax", "iou_threshold": 0.5}, outputs, LABELS)[0]
    assert found["labels"].tolist() == [0]
    assert found["scores"][0] == pytest.approx(math.exp(3.9) / (math.exp(3.9) + 2 + math.exp(-9)))
    assert len(run("detection", {"activation": "sigmoid"}, outputs, LABELS)[0]["labels"]) == 2


def test_a_detector_of_one_class_needs_no_labels() -> None:
    outputs = {"boxes": np.array([[[0, 0, 9, 9], [0, 0, 5, 5.0]]]), "logits": np.array([[[-3.0], [2.0]]])}
    (found,) = run("detection", {"activation": "sigmoid"}, outputs, [{"task": "label", "classes": ["digit"]}])
    assert found["scores"].tolist() == pytest.approx([sigmoid(2), sigmoid(-3)][: len(found["scores"])])
    assert set(found["labels"].tolist()) == {0}
    assert found["boxes"][0].tolist() == [0, 0, 5, 5]


def anchor_free(boxes: list[list[float]]) -> np.ndarray[Any, Any]:
    """A head (1, 7, n) of center, size and three scores."""
    return np.array(boxes, np.float32).T[None]


def test_an_anchor_free_head_in_both_layouts() -> None:
    rows = [[50, 40, 20, 10, 0.1, 0.8, 0.2], [51, 40, 20, 10, 0.0, 0.7, 0.3], [50, 40, 20, 10, 0.6, 0.1, 0.1]]
    rows += [[0, 0, 2, 2, 0.01, 0.02, 0.0]] * 10
    for output in (anchor_free(rows), anchor_free(rows).transpose(0, 2, 1)):
        (found,) = run("yolo", {}, {"output0": output}, LABELS)
        np.testing.assert_allclose(found["boxes"], [[40, 35, 60, 45]] * 2)
        assert found["labels"].tolist() == [1, 0]
        assert found["scores"] == pytest.approx([0.8, 0.6])
    assert len(run("yolo", {"class_agnostic": 1}, {"output0": anchor_free(rows)}, LABELS)[0]["labels"]) == 1
    several = run("yolo", {"multi_label": 1}, {"output0": anchor_free(rows)}, LABELS)[0]
    assert sorted(several["labels"].tolist()) == [0, 1, 2]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def decoded(head: Any, stride: int, anchors: list[tuple[float, float]], version: str) -> list[list[float]]:
    """YOLOv5's `Detect.forward` and YOLOv3's equations, one place after the other."""
    rows = []
    for a, (wide, high) in enumerate(anchors):
        for y in range(head.shape[1]):
            for x in range(head.shape[2]):
                tx, ty, tw, th, *scores = (float(v) for v in head[a, y, x])
                if version == "v5":
                    centre = [(2 * sigmoid(tx) - 0.5 + x) * stride, (2 * sigmoid(ty) - 0.5 + y) * stride]
                    size = [(2 * sigmoid(tw)) ** 2 * wide, (2 * sigmoid(th)) ** 2 * high]
                else:
                    centre, size = (
                        [(sigmoid(tx) + x) * stride, (sigmoid(ty) + y) * stride],
                        [math.exp(tw) * wide, math.exp(th) * high],
                    )
                rows.append([*centre, *size, *(sigmoid(score) for score in scores)])
    return rows


@pytest.mark.parametrize("version", ["v5", "v3"])
def test_raw_heads_with_anchors_are_decoded_in_every_layout(version: str) -> None:
    random = np.random.default_rng(1)
    anchors, strides = [[(10.0, 13.0), (16.0, 30.0)], [(30.0, 61.0), (62.0, 45.0)]], [8, 16]
    heads = [random.normal(0, 2, (2, 2, 64 // s, 96 // s, 8)).astype(np.float32) for s in strides]
    args: dict[str, Any] = {
        "anchors": [v for head in anchors for pair in head for v in pair],
        "strides": [8.0, 16.0],
        "decoding": version,
    }
    args |= {"score_threshold": 0.3, "max_detections": 30}
    expected = []
    for sample in range(2):
        rows = [
            row for h, s, a in zip(heads, strides, anchors, strict=True) for row in decoded(h[sample], s, a, version)
        ]
        expected.append(run("yolo", {"score_threshold": 0.3, "max_detections": 30}, {"o": np.array([rows])}, LABELS)[0])
    four = [head.transpose(0, 1, 4, 2, 3).reshape(2, 16, *head.shape[2:4]) for head in heads]
    flat = np.concatenate([head.reshape(2, -1, 8) for head in heads], 1)
    layouts = [{"a": heads[0], "b": heads[1]}, {"a": four[0], "b": four[1]}]
    found = [run("yolo", args, outputs, LABELS) for outputs in layouts]
    found.append(run("yolo", args | {"decoded": 0}, {"o": flat}, LABELS, (64, 96)))
    for layout in found:
        for sample in range(2):
            assert len(layout[sample]["scores"]) > 5
            for name, values in expected[sample].items():
                np.testing.assert_allclose(layout[sample][name], values, rtol=1e-5, atol=1e-4)


def test_embeddings_are_pooled_and_brought_to_length_1() -> None:
    tokens = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    np.testing.assert_array_equal(run("embedding", {"pooling": "first"}, {"h": tokens}, [])[1]["vector"], [6, 7])
    np.testing.assert_array_equal(run("embedding", {"pooling": "mean"}, {"h": tokens}, [])[0]["vector"], [2, 3])
    (one, _) = run(
        "embedding", {"normalize": 1}, {"logits": np.zeros((2, 1)), "pooled": np.array([[3, 4], [0, 0]])}, []
    )
    np.testing.assert_allclose(one["vector"], [0.6, 0.8])


@pytest.mark.parametrize(
    ("method", "args", "shapes", "expected"),
    [
        ("classification", {}, {"s": (4, 3)}, ""),
        ("classification", {"label_offset": 1}, {"s": (4, 4)}, ""),
        ("classification", {}, {"s": (4, 3, 1, 1)}, ""),
        ("classification", {}, {"s": (4,)}, "output 's' of the task 'label' is expected to be (batch, 3)"),
        ("multi_classification", {"scores": ["s", "t"]}, {"s": (4, 3), "t": (4, 3)}, "one output of scores per"),
        ("detection", {}, {"b": (1, 9, 4), "s": (1, 9), "l": (1, 8)}, "of equal size are expected"),
        ("detection", {}, {"s": (1, 9)}, "an output of boxes is expected"),
        ("detection", {}, {"b": (1, 9, 4), "s": (1, 9)}, "an output of labels is expected"),
        ("detection", {}, {"b": (1, 9, 4), "s": (1, 9, 2)}, "scores are expected to be (batch, n, 3)"),
        ("detection", {"normalized": 1}, {"o": (1, 9, 6)}, "size of the model's input is unknown"),
        ("yolo", {}, {"o": (1, 7, 99)}, ""),
        ("yolo", {}, {"o": (1, 99, 8)}, ""),
        ("yolo", {}, {"o": (1, 3, 8, 8, 8)}, "with the arguments anchors and strides"),
        ("yolo", {"anchors": [1.0] * 5, "strides": [8.0]}, {"o": (1, 3, 8, 8, 8)}, "not 5 numbers for 1"),
        (
            "yolo",
            {"anchors": [1.0] * 6, "strides": [8.0]},
            {"o": (1, 24, 8, 8), "p": (1, 24, 4, 4)},
            "1 heads are expected",
        ),
        ("yolo", {}, {"o": (1, 9)}, "a yolo head is expected"),
        ("yolo", {"anchors": [1.0] * 4, "strides": [8.0]}, {"o": (1, 3, 4, 4, 8)}, "a yolo head is expected"),
        ("yolo", {"anchors": [1.0] * 4, "strides": [8.0]}, {"o": (1, 4, 4, 2, 8)}, "a yolo head is expected"),
        ("yolo", {}, {"o": (1, 9, 8), "p": (2, 9, 8)}, "one row per sample"),
        ("detection", {}, {"b": (1, 9, 4), "s": (1, 9, 1)}, "scores are expected to be (batch, n, 3)"),
        ("embedding", {"pooling": "mean"}, {"o": (4, 8)}, "output 'o' is expected to be (batch, tokens, dimension)"),
        ("raw", {}, {"o": ()}, ""),
    ],
)
def test_outputs_that_do_not_fit_are_described(
    method: str, args: dict[str, Any], shapes: dict[str, Any], expected: str
) -> None:
    sentence = check(method, args, shapes, LABELS)
    assert (expected in sentence) if expected else (sentence == "")
    assert method in METHODS


def test_values_that_are_not_finite_are_no_boxes() -> None:
    rows = [[1, 2, 3, 4, 0.9, 0], [np.nan, 2, 3, 4, 0.9, 0], [1, 2, 3, 4, np.nan, 0], [1, 2, 3, 4, 0.5, np.inf]]
    (found,) = run("detection", {}, {"o": np.array([rows], np.float32)}, LABELS)
    assert found["labels"].tolist() == [0, -1]
    head = np.full((1, 7, 9), np.nan, np.float32)
    assert len(run("yolo", {}, {"o": head}, LABELS)[0]["labels"]) == 0


def test_arguments_are_read_in_both_forms() -> None:
    proto: dict[str, Any] = {"a": {"vi": {"values": ["1", "2"]}}, "b": {"sf": 0.5}, "c": {"si": "3"}, "d": {"vs": {}}}
    own: dict[str, Any] = {"a": {"vi": [1, 2]}, "b": {"sf": 0.5}, "c": {"si": 3}, "d": {"vs": []}}
    assert plain(proto) == plain(own) == {"a": [1, 2], "b": 0.5, "c": 3, "d": []}


def test_predictions_are_described_for_people() -> None:
    (scores,) = run("classification", {}, {"s": np.array([[0.2, 0.7, 0.1]])}, LABELS)
    assert describe(scores, LABELS, 4, most=2) == ["label[4]: dog 0.7000, cat 0.2000"]
    (boxes,) = run("detection", {}, {"o": np.array([[[1, 2, 3, 4, 0.9, 5]]])}, LABELS)
    assert describe(boxes, LABELS, 0) == ["box[0]: class 5 0.9000 at 1.0 2.0 3.0 4.0"]
    with pytest.raises(OutputMismatch):
        run("embedding", {"vector": "v"}, {"o": np.zeros((1, 2))}, [])
