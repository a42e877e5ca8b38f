"""COCO files are read as by pycocotools, and their errors are reported."""

from __future__ import annotations

import contextlib
import io
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from engines.datasets import json_stream
from engines.datasets.index import read_items
from tests.unit.datasets.kit import coco, coco_box, coco_image, imported, png, refused


@pytest.mark.parametrize("chunk", [7, 2**20])
@pytest.mark.parametrize("indent", [None, 1])
def test_it_reads_what_pycocotools_reads(
    tmp_path: Path, chunk: int, indent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pycocotools.coco import COCO

    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    rng = random.Random(3)
    images = [coco_image(number * 11, f"{number}.png", width=32, height=24) for number in range(12)]
    annotations = []
    for number in range(60):
        x, y = rng.uniform(0, 20), rng.uniform(0, 15)
        bbox = [round(value, 2) for value in (x, y, rng.uniform(1, 11), rng.uniform(1, 8))]
        more = {"iscrowd": int(number % 9 == 0), "area": round(bbox[2] * bbox[3] * 0.7, 3), "segmentation": [[1.5] * 6]}
        annotations.append(coco_box(number, rng.choice(images)["id"], rng.choice([1, 7, 90]), bbox, **more))
    values = coco(images, annotations, {1: "cat", 7: "dog", 90: "tooth brush"})
    text = json.dumps(dict(sorted(values.items())), indent=indent)
    files: dict[str, bytes | str] = {"annotations/instances.json": text}
    files |= {f"images/{number}.png": png(seed=number) for number in range(12)}
    result = imported(tmp_path, files)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(tmp_path / "files" / "annotations" / "instances.json"))

    items = {item.path: item for item in read_items(tmp_path / "out" / "index.parquet")}
    assert (result["format"], result["type"], result["report"]["warnings"]) == ("COCO", "DETECTION", [])
    assert len(items) == len(theirs.imgs)
    for number, entry in theirs.imgs.items():
        ours = items[f"images/{entry['file_name']}"].boxes
        expected = theirs.loadAnns(theirs.getAnnIds([number]))
        assert [(b.x, b.y, b.width, b.height, b.area, b.crowd) for b in ours] == [
            (*a["bbox"], a["area"], bool(a["iscrowd"])) for a in expected
        ]
        assert [b.label for b in ours] == [theirs.cats[a["category_id"]]["name"] for a in expected]
    names = Counter(theirs.cats[a["category_id"]]["name"] for a in annotations)
    assert {entry["value"]: entry["count"] for entry in result["classes"]} == names


def test_extra_fields_of_images_are_attributes(tmp_path: Path) -> None:
    extra: dict[str, Any] = {
        "scene": "night",
        "speed": 30,
        "wet": True,
        "license": 3,
        "coco_url": "http://x",
        "tags": ["a"],
        "none": None,
    }
    values = coco([coco_image(**extra, attributes={"weather": "fog"})], [coco_box()])
    imported(tmp_path, {"a.png": png(), "a.json": json.dumps(values)})
    [item] = read_items(tmp_path / "out" / "index.parquet")
    assert item.attributes == {"scene": "night", "speed": "30", "wet": "true", "weather": "fog"}


def test_images_without_boxes_stay_and_missing_ones_are_left_out(tmp_path: Path) -> None:
    values = coco(
        [coco_image(1, "a.png"), coco_image(2, "b.png"), coco_image(3, "c.png")], [coco_box(), coco_box(2, of=3)]
    )
    report = imported(tmp_path, {"a.png": png(), "b.png": png(), "x.json": json.dumps(values)})["report"]
    assert (report["items"], report["boxes"], report["dropped_items"]) == (2, 1, 1)
    assert "'c.png'" in report["warnings"][0]


def test_several_files_are_merged(tmp_path: Path) -> None:
    first = coco([coco_image(1, "a.png")], [coco_box(1, 1, 1)], {1: "cat"})
    second = coco(
        [coco_image(1, "b.png"), coco_image(2, "a.png")],
        [coco_box(1, 1, 1), coco_box(2, 2, 2), coco_box(3, 2, 1)],
        {1: "dog", 2: "cat"},
    )
    files: dict[str, bytes | str] = {
        "a.png": png(),
        "b.png": png(seed=1),
        "1.json": json.dumps(first),
        "2.json": json.dumps(second),
    }
    imported(tmp_path, files)
    items = read_items(tmp_path / "out" / "index.parquet")
    assert [(item.path, [b.label for b in item.boxes]) for item in items] == [
        ("a.png", ["cat", "dog"]),
        ("b.png", ["dog"]),
    ]


def test_missing_parts_of_annotations_are_warnings(tmp_path: Path) -> None:
    annotations = [
        coco_box(),
        {"id": 2, "image_id": 1, "caption": "x"},
        coco_box(3, of=99),
        coco_box(4, category=5),
        coco_box(5, bbox=[0, 0, 90, 9]),
    ]
    values = coco([coco_image(width=99, height=24)], annotations)
    report = imported(tmp_path, {"a.png": png(), "x.json": json.dumps(values)})["report"]
    said = "\n".join(report["warnings"])
    for words in (
        "1 annotation has no 'bbox'",
        "annotation 3 of image 99: the file lists no image 99",
        "annotation 4 of image 1: the file lists no category 5",
        "32 x 24",
        "99 x 24",
        "annotation 5 ('cat'",
    ):
        assert words in said
    assert (report["boxes"], report["dropped_annotations"]) == (2, 3)


@pytest.mark.parametrize("cut", [40, 200, -3])
def test_a_truncated_file_is_rejected_with_its_line(tmp_path: Path, cut: int) -> None:
    text = json.dumps(coco([coco_image()], [coco_box(n) for n in range(9)]), indent=1)
    text = text.replace('"info"', '"annotations": [], "images": [], "info"', 1)[:cut]
    with refused("x.json, line", "not valid JSON"):
        imported(tmp_path, {"a.png": png(), "x.json": text}, format="COCO")


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"a": 1}',
        '{"a": [1, [2], {"b": "]"}], "c": "é\\n", "d": -1.5e3}',
        '{"a": ["\\ud83d\\ude00", "\\\\ud800"]}',
        ' {"n": [1234567890, 2]} ',
        '{"e": []}',
    ],
)
@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_the_stream_equals_json(tmp_path: Path, text: str, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    (tmp_path / "x.json").write_text(text)
    whole: dict[str, Any] = {key: [] for key, value in json.loads(text).items() if value == []}
    arrays = {key for key, value in json.loads(text).items() if isinstance(value, list)}
    for key, value in json_stream.members(tmp_path / "x.json", "x.json"):
        if key in arrays:
            whole.setdefault(key, []).append(value)
        else:
            whole[key] = value
    assert whole == json.loads(text)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a" 1}', '{"a": [1 2]}', '{"a": 1} x', "{1: 2}", '{"a": [1', '{"a": tru}']
)
def test_the_stream_rejects_what_json_rejects(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with refused("x.json, line 1", "not valid JSON"):
        list(json_stream.members(tmp_path / "x.json", "x.json"))


@pytest.mark.parametrize("text", ['{"\\uDFFF": 1}', '{"a": [' + "1" * 5000 + "]}"])
def test_the_stream_refuses_keys_and_numbers_that_no_index_could_hold(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with refused("x.json, line 1", "not valid JSON"):
        list(json_stream.members(tmp_path / "x.json", "x.json"))
