"""Raw heads of detectors against a reference of plain loops, which shares nothing with the code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.evaluation.arguments import check_arguments
from engines.failures import EngineFailure
from engines.postprocess import OutputMismatch, check, run

HEIGHT, WIDTH = 48, 64
STRIDES = [8.0, 16.0]


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def overlap(one: list[float], two: list[float]) -> float:
    wide = min(one[2], two[2]) - max(one[0], two[0])
    tall = min(one[3], two[3]) - max(one[1], two[1])
    shared = max(wide, 0) * max(tall, 0)
    areas = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, two))
    return shared / (areas - shared) if areas > shared else 0.0


def cut(box: list[float]) -> list[float]:
    return [min(max(value, 0), end) for value, end in zip(box, (WIDTH, HEIGHT, WIDTH, HEIGHT), strict=True)]


def suppressed(found: list[tuple[float, int, list[float]]], limit: float, most: int) -> list[Any]:
    kept: list[tuple[float, int, list[float]]] = []
    for score, label, box in sorted(found, key=lambda entry: -entry[0]):
        if all(other != label or overlap(rival, box) <= limit for _, other, rival in kept):
            kept.append((score, label, box))
    return kept[:most]


def reference(args: dict[str, Any], outputs: dict[str, Any], anchors: list[list[list[float]]]) -> list[Any]:
    """Return the boxes of the first sample, position by position, class by class."""
    found = []
    for level, stride in enumerate(STRIDES):
        scores, boxes = outputs[f"scores_{level}"][0], outputs[f"boxes_{level}"][0]
        per = len(anchors[level])
        classes = len(scores) // per
        here = []
        for y, x, anchor in np.ndindex(*scores.shape[1:], per):
            said = [float(value) for value in boxes[4 * anchor : 4 * anchor + 4, y, x]]
            px, py = ((value + args.get("offset", 0.0)) * stride for value in (x, y))
            if args["decoding"] == "distances":
                box = [px - said[0], py - said[1], px + said[2], py + said[3]]
            elif args["decoding"] == "points":
                cx, cy = px + said[0] * stride, py + said[1] * stride
                w, h = math.exp(said[2]) * stride, math.exp(said[3]) * stride
                box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            else:
                said = [v * s + m for v, s, m in zip(said, args["stds"], args["means"], strict=True)]
                left, top, right, bottom = (
                    value + shift for value, shift in zip(anchors[level][anchor], (px, py, px, py), strict=True)
                )
                w, h = right - left, bottom - top
                cx, cy = (left + right) / 2 + said[0] * w, (top + bottom) / 2 + said[1] * h
                w, h = (extent * math.exp(min(max(v, -1.5), 1.5)) for extent, v in ((w, said[2]), (h, said[3])))
                box = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
            values = [logistic(scores[anchor * classes + label, y, x]) for label in range(classes)]
            if f"objectness_{level}" in outputs:
                values = [value * logistic(outputs[f"objectness_{level}"][0, anchor, y, x]) for value in values]
            labels = range(classes) if args.get("multi_label", 1) else [int(np.argmax(values))]
            factor = 1.0
            if f"centerness_{level}" in outputs:
                factor = logistic(outputs[f"centerness_{level}"][0, anchor, y, x])
            here += [(values[label], label, box, factor) for label in labels if values[label] > args["score_threshold"]]
        here.sort(key=lambda entry: -entry[0])
        found += [(score * factor, label, box) for score, label, box, factor in here[: args.get("candidates") or None]]
    if args["clip"] == "before":
        found = [(score, label, cut(box)) for score, label, box in found]
        found = [entry for entry in found if entry[2][2] > entry[2][0] and entry[2][3] > entry[2][1]]
    return suppressed(found, args["iou_threshold"], args["max_detections"])


@st.composite
def problems(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any], list[list[list[float]]]]:
    """Return arguments, outputs and anchors, by level, of a random head."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    decoding = draw(st.sampled_from(["deltas", "distances", "points"]))
    classes = draw(st.integers(1, 3))
    counts = draw(st.lists(st.integers(1, 3), min_size=2, max_size=2)) if decoding == "deltas" else [1, 1]
    anchors = [
        [[-w / 2, -h / 2, w / 2, h / 2] for w, h in generator.uniform(4, 30, (count, 2)).tolist()] for count in counts
    ]
    third = draw(st.sampled_from(["", "centerness", "objectness"]))
    outputs = {}
    for level, (stride, per) in enumerate(zip(STRIDES, counts, strict=True)):
        grid = (1, math.ceil(HEIGHT / stride), math.ceil(WIDTH / stride))
        outputs[f"scores_{level}"] = generator.normal(-1, 2, (1, per * classes, *grid[1:]))
        scale = 8.0 if decoding == "distances" else 0.7
        outputs[f"boxes_{level}"] = np.abs(generator.normal(0, scale, (1, 4 * per, *grid[1:])))
        if third:
            outputs[f"{third}_{level}"] = generator.normal(0, 2, (1, per, *grid[1:]))
    args = {
        "decoding": decoding,
        "strides": STRIDES,
        "offset": draw(st.sampled_from([0.0, 0.5])) if decoding != "deltas" else 0.0,
        "score_threshold": draw(st.sampled_from([0.05, 0.4])),
        "candidates": draw(st.sampled_from([0, 7])),
        "iou_threshold": draw(st.sampled_from([0.3, 0.6])),
        "max_detections": draw(st.sampled_from([3, 100])),
        "multi_label": draw(st.sampled_from([0, 1])),
        "clip": draw(st.sampled_from(["before", "never"])),
        "means": [0.1, 0.0, 0.0, -0.1],
        "stds": [0.5, 1.0, 2.0, 1.0],
        "log_range": [-1.5, 1.5],
    }
    if decoding == "deltas":
        args |= {"anchor_counts": counts, "base_anchors": np.concatenate(anchors).ravel().tolist()}
    return args, outputs, anchors


@given(problems())
def test_a_pyramid_gives_the_boxes_of_the_reference(problem: Any) -> None:
    args, outputs, anchors = problem
    check_arguments("heads", args)
    found = run("heads", args, outputs, [], (HEIGHT, WIDTH))[0]
    expected = reference(args, outputs, anchors)
    assert found["labels"].tolist() == [label for _, label, _ in expected]
    np.testing.assert_allclose(found["scores"], [score for score, _, _ in expected], rtol=1e-9)
    np.testing.assert_allclose(found["boxes"], np.reshape([box for _, _, box in expected], (-1, 4)), atol=1e-9)


@pytest.mark.parametrize("agnostic", [False, True])
def test_a_second_stage(agnostic: bool) -> None:
    """Two proposals, one of which is a place that is left; three classes and the background."""
    scores = np.array([[[0.0, 3.0, 1.0, 0.0], [9.0, 0.0, 0.0, 0.0]]])
    boxes = np.zeros((1, 2, 4 if agnostic else 12))
    boxes[0, 0, 0 if agnostic else 4] = 1.0  # class 1 moves by a tenth of the width
    args = {
        "proposals": "proposals",
        "activation": "softmax",
        "stds": [0.1, 0.1, 0.2, 0.2],
        "score_threshold": 0.2,
    }
    outputs = {"proposals": np.array([[[10.0, 4, 30, 24], [0, 0, 0, 0]]]), "scores": scores, "boxes": boxes}
    found = run("heads", args, outputs, [{"task": "object", "classes": ["a", "b", "c"]}], (HEIGHT, WIDTH))[0]
    assert found["labels"].tolist() == [1]
    powers = np.exp(scores[0, 0])
    np.testing.assert_allclose(found["scores"], powers[1] / powers.sum())
    np.testing.assert_allclose(found["boxes"], [[12, 4, 32, 24]])


def test_boxes_are_cut_after_suppression_if_the_arguments_say_so() -> None:
    args = {"decoding": "distances", "strides": [64.0], "offset": 0.5, "clip": "after", "score_threshold": 0.1}
    outputs = {"scores_0": np.zeros((1, 1, 1, 1)), "boxes_0": np.full((1, 4, 1, 1), 40.0)}
    assert run("heads", args, outputs, [], (HEIGHT, WIDTH))[0]["boxes"].tolist() == [[0, 0, 64, 48]]
    outside = {**outputs, "boxes_0": np.array([200.0, 40, -150, 40]).reshape(1, 4, 1, 1)}
    assert not len(run("heads", args, outside, [], (HEIGHT, WIDTH))[0]["boxes"])


@pytest.mark.parametrize(
    ("args", "shapes", "words"),
    [
        ({"strides": [8.0]}, {"a": (1, 3)}, "outputs of scores are expected"),
        ({"strides": [8.0]}, {"scores_0": (1, 3, 2, 2)}, "1 levels have scores, and 0 have boxes"),
        ({}, {"scores_0": (1, 3, 2, 2), "boxes_0": (1, 4, 2, 2)}, "0 have strides"),
        ({"strides": [8.0]}, {"scores_0": (1, 3, 2, 2), "boxes_0": (1, 4, 2, 2)}, "base_anchors are expected"),
        (
            {"strides": [8.0], "decoding": "points"},
            {"scores_0": (1, 3, 2, 2), "boxes_0": (1, 4, 2, 3)},
            r"of one size are expected, not \(1, 3, 2, 2\) and \(1, 4, 2, 3\)",
        ),
        (
            {"strides": [8.0], "decoding": "points"},
            {"scores_0": (1, 3, 2, 2), "boxes_0": (1, 4, 2, 2)},
            "scores of 2 classes are expected, not of 3",
        ),
        ({"proposals": "p"}, {"p": (1, 5, 4), "scores": (1, 6, 3), "boxes": (1, 6, 8)}, "proposals .* are expected"),
        ({"proposals": "p"}, {"scores": (1, 6, 3)}, "an output of proposals named 'p' is expected"),
    ],
)
def test_outputs_that_do_not_fit(args: dict[str, Any], shapes: dict[str, Any], words: str) -> None:
    taxonomies = [{"task": "object", "classes": ["a", "b"]}]
    outputs = {name: np.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(OutputMismatch, match=words):
        run("heads", args, outputs, taxonomies, (HEIGHT, WIDTH))
    assert check("heads", args, shapes, taxonomies)


def test_arguments_of_the_wrong_length_are_refused() -> None:
    with pytest.raises(EngineFailure, match=r"'means' is .* it must be 4 numbers"):
        check_arguments("heads", {"means": [0.0, 0.0]})
    with pytest.raises(EngineFailure, match="'decoding' is 'boxes'; it must be one of deltas, distances, points"):
        check_arguments("heads", {"decoding": "boxes"})
