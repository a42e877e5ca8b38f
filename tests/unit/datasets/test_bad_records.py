"""Malformed records are left out, counted and reported; the others stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.datasets import tensors
from engines.datasets.index import read_items
from tests.unit.datasets.kit import coco, coco_box, coco_image, imported, lines, npz, png, refused

GOOD = {"label": "a", "x": 1, "y": 1, "width": 3, "height": 3}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"image": "b.png"', "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"classifications": {}}', "'image' is missing"),
        ('{"image": "b.png", "classifications": {"label": "7"}}', "'label' is reserved for boxes"),
        ('{"image": "b.png", "classifications": {"digit": [7]}}', "'classifications.digit' is [7]"),
        ('{"image": "b.png", "attributes": "night"}', "'attributes'"),
        ('{"image": "b.png", "boxes": {}}', "'boxes' is not a list"),
        ('{"image": "b.png", "attributes": {"light": Infinity}}', "finite"),
        ('{"image": "b.png", "attributes": {"light": ' + "1" * 5000 + "}}", "not valid JSON"),
        ('{"image": "b.png", "attributes": {"scene": "\\ud800"}}', "half a character"),
        ('{"image": "b.png", "attributes": {"\\udfff": "night"}}', "half a character"),
        ('{"image": "\\uD800.png"}', "half a character"),
        (b'{"image": "\xff.png"}', "not UTF-8"),
    ],
)
def test_a_bad_line_is_left_out_and_named_by_its_number(tmp_path: Path, line: str | bytes, words: str) -> None:
    written = line.encode() if isinstance(line, str) else line
    text = b'{"image": "a.png"}\n\n' + written + b'\n{"image": "c.png"}\n'
    files: dict[str, bytes | str] = {f"{name}.png": png(seed=ord(name)) for name in "abc"}
    report = imported(tmp_path, files | {"x/a.jsonl": text})["report"]
    assert (report["items"], report["dropped_items"], report["dropped_annotations"]) == (2, 1, 0)
    assert report["warnings"][0].startswith("x/a.jsonl, line 3: ")
    assert words in report["warnings"][0]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"image": "b.png", "boxes": [{"label": "a", "x": 1, "y": 1, "width": 1}]}', "box 1: 'height' is missing"),
        ('{"image": "b.png", "boxes": [{"label": "a", "x": NaN, "y": 1, "width": 1, "height": 1}]}', "'x' is nan"),
        ('{"image": "b.png", "boxes": [{"label": "a", "x": 1e999, "y": 1, "width": 1, "height": 1}]}', "finite"),
        ('{"image": "b.png", "boxes": [{"label": "a", "x": "1", "y": 1, "width": 1, "height": 1}]}', "'x' is '1'"),
        ('{"image": "b.png", "boxes": [{"label": "a", "left": 1, "x": 1, "y": 1, "width": 1, "height": 1}]}', "'left'"),
        ('{"image": "b.png", "boxes": [{"label": "a", "x": 1, "y": 1, "width": 1, "height": 1, "crowd": "0"}]}', "'0'"),
        ('{"image": "b.png", "boxes": [{"label": "a", "x": 1, "y": 1, "width": 1, "height": 1, "crowd": []}]}', "[]"),
    ],
)
def test_a_bad_box_is_left_out_and_its_image_stays(tmp_path: Path, line: str, words: str) -> None:
    text = lines({"image": "a.png", "boxes": [GOOD]}) + f"\n{line}\n"
    report = imported(tmp_path, {"a.png": png(), "b.png": png(seed=1), "a.jsonl": text})["report"]
    assert (report["items"], report["boxes"]) == (2, 1)
    assert (report["dropped_items"], report["dropped_annotations"]) == (0, 1)
    assert report["warnings"][0].startswith("a.jsonl, line 2, box 1: ")
    assert words in report["warnings"][0]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (coco_box(17, bbox=[]), ["'bbox' is []"]),
        (coco_box(17, bbox=[1, 2, float("nan"), 4]), ["bbox[2]", "nan"]),
        (coco_box(17, bbox=[1, 2, 3, float("-inf")]), ["bbox[3]", "-inf"]),
        (coco_box(17, bbox=[1, 2, 3]), ["[x, y, width, height]"]),
        (coco_box(17, bbox=[1, 2, 3, "4"]), ["'4', not a number"]),
        (coco_box(17, area=float("nan")), ["'area'"]),
        (coco_box(17, area=[100]), ["'area' is [100]"]),
        (coco_box(17, iscrowd="0"), ["'iscrowd'"]),
        (coco_box(17, of=1.5), ["'image_id'", "1.5", "integer"]),
        (coco_box(17, of=[1]), ["'image_id'", "[1]"]),
        (coco_box(17, of=True), ["'image_id'", "True"]),
        (coco_box(17, category=None), ["'category_id'", "None"]),
        (coco_box(17, of=99), ["lists no image 99"]),
        (coco_box(17, category="cow"), ["lists no category 'cow'"]),
    ],
)
def test_a_bad_annotation_of_coco_is_left_out_and_named(tmp_path: Path, bad: dict[str, Any], words: list[str]) -> None:
    values = coco([coco_image()], [coco_box(1), bad, coco_box(2, category=7)])
    report = imported(tmp_path, {"a.png": png(), "x.json": json.dumps(values)})["report"]
    assert (report["items"], report["boxes"], report["dropped_annotations"]) == (1, 2, 1)
    (said,) = report["warnings"]
    assert said.startswith(f"x.json, annotation 17 of image {bad['image_id']}: ")
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"id": 3}, "file_name"),
        ({"file_name": "b.png"}, "'id'"),
        (coco_image(1, "b.png"), "two images have the id 1"),
        (coco_image(1.0, "b.png"), "two images have the id 1"),
        (coco_image(1.5, "b.png"), "'id' is '1.5'"),
        (coco_image(3, "b.png", light=float("inf")), "image 3: 'attributes.light'"),
        ("b.png", "not an object"),
    ],
)
def test_a_bad_image_of_coco_is_left_out_and_named(tmp_path: Path, bad: Any, words: str) -> None:
    values = coco([coco_image(), bad], [coco_box()])
    files: dict[str, bytes | str] = {"a.png": png(), "b.png": png(seed=1), "x.json": json.dumps(values)}
    report = imported(tmp_path, files)["report"]
    assert (report["items"], report["boxes"], report["dropped_items"]) == (1, 1, 1)
    assert words in report["warnings"][0]


@pytest.mark.parametrize(
    ("text", "words"), [('{"id": 9, "name": "\\ud800"}', "line 1: an entry of 'categories'"), ('{"id": 9}', "'name'")]
)
def test_a_bad_category_of_coco_takes_its_annotations_with_it(tmp_path: Path, text: str, words: str) -> None:
    written = json.dumps(coco([coco_image()], [coco_box(), coco_box(2, category=9)]))
    written = written.replace('"categories": [', f'"categories": [{text}, ')
    report = imported(tmp_path, {"a.png": png(), "x.json": written})["report"]
    assert (report["boxes"], report["dropped_annotations"]) == (1, 1)
    assert words in report["warnings"][0]
    assert "lists no category 9" in report["warnings"][1]


@pytest.mark.parametrize("defined", [int, float, str])
@pytest.mark.parametrize("referred", [int, float, str])
def test_ids_are_matched_by_their_value(tmp_path: Path, defined: type, referred: type) -> None:
    values = coco(
        [coco_image(defined(1), "a.png"), coco_image(defined(2), "b.png")],
        [coco_box(1, referred(1), referred(7)), coco_box(2, referred(2), referred(1))],
    )
    values["categories"] = [{"id": defined(1), "name": "cat"}, {"id": defined(7), "name": "dog"}]
    files: dict[str, bytes | str] = {"a.png": png(), "b.png": png(seed=1), "x.json": json.dumps(values)}
    assert imported(tmp_path, files)["report"]["warnings"] == []
    items = read_items(tmp_path / "out" / "index.parquet")
    assert [(item.path, [box.label for box in item.boxes]) for item in items] == [
        ("a.png", ["dog"]),
        ("b.png", ["cat"]),
    ]


def test_an_exact_id_is_preferred_to_one_of_the_same_value(tmp_path: Path) -> None:
    values = coco([coco_image(1, "a.png"), coco_image("1", "b.png")], [coco_box(1, 1), coco_box(2, "1", 7)])
    files: dict[str, bytes | str] = {"a.png": png(), "b.png": png(seed=1), "x.json": json.dumps(values)}
    assert imported(tmp_path, files)["report"]["warnings"] == []
    assert [item.boxes[0].label for item in read_items(tmp_path / "out" / "index.parquet")] == ["cat", "dog"]


@pytest.mark.parametrize("annotations", [[coco_box(of=99)], [coco_box(bbox=[])], [{"id": 1, "image_id": 1}]])
def test_a_file_without_usable_annotations_is_rejected(tmp_path: Path, annotations: list[dict[str, Any]]) -> None:
    files: dict[str, bytes | str] = {"a.png": png(), "x.json": json.dumps(coco([coco_image()], annotations))}
    with refused("have annotations, but none of them is usable", "x.json"):
        imported(tmp_path / "1", files, mapping={"entries": [{"task": "t", "key": "label", "classes": ["cat"]}]})
    assert imported(tmp_path / "2", files, type="UNANNOTATED")["item_count"] == 1


def test_boxes_that_lie_outside_and_lines_that_are_all_bad_are_failures_too(tmp_path: Path) -> None:
    outside = lines({"image": "a.png", "boxes": [GOOD | {"x": 99}]})
    with refused("none of them is usable", "lies outside"):
        imported(tmp_path / "1", {"a.png": png(), "a.jsonl": outside})
    with refused("no usable item", "a.jsonl, line 1"):
        imported(tmp_path / "2", {"a.png": png(), "a.jsonl": "{\n}"})


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("chunk", [8, 2**24])
def test_rows_of_tensors_that_are_not_finite_are_left_out(
    tmp_path: Path, bad: float, order: str, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensors, "_CHUNK", chunk)
    x = np.ones((6, 2, 3), np.float32)
    x[5, 0, 0] = x[2, 1, 2] = bad
    label = np.array([0, 1, 2, 3.5, 4, 5])
    report = imported(tmp_path, {"d.npz": npz(x=np.array(x, order=order), label=label)})["report"]  # type: ignore[call-overload]
    assert (report["items"], report["dropped_items"]) == (3, 3)
    assert [said.split(";")[0] for said in report["warnings"]] == [
        "d.npz, row 2: array 'x' contains NaN or infinity",
        "d.npz, row 3: array 'label' contains 3.5, which is not a class",
        "d.npz, row 5: array 'x' contains NaN or infinity",
    ]
    items = read_items(tmp_path / "out" / "index.parquet")
    assert [(item.row, item.classifications["class"]) for item in items] == [(0, "0"), (1, "1"), (4, "4")]


def test_a_bad_file_of_tensors_is_left_out(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"a.npz": npz(x=[1.0, np.nan]), "b.npz": npz(x=[1.0])[:-30]}
    report = imported(tmp_path / "1", files)["report"]
    assert (report["items"], report["dropped_items"]) == (1, 2)
    assert "b.npz is not a valid NPZ" in report["warnings"][0]
    text = lines(*({"tensors": "a.npz", "row": row} for row in range(3)), {"tensors": "b.npz"})
    report = imported(tmp_path / "2", files | {"a.jsonl": text})["report"]
    assert (report["items"], report["dropped_items"]) == (1, 3)
    for words in ("contains NaN or infinity", "no row 2; it has 2", "b.npz: b.npz is not a valid NPZ"):
        assert any(words in said for said in report["warnings"])
