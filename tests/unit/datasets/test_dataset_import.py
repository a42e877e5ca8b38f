"""Imports: formats are detected, bad images left out, boxes clipped, contents stored once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from engines.datasets.index import read_items
from engines.datasets.jsonl import to_line
from engines.failures import FailureReason
from tests.unit.datasets.kit import imported, lines, npz, png, refused, zipped


def test_an_image_folder_gives_the_class_of_each_folder(tmp_path: Path) -> None:
    files = {"digits/7/a.png": png(seed=1), "digits/7/b.png": png(seed=2), "digits/1/c.png": png(8, 9)}
    result = imported(tmp_path, {"upload.zip": zipped(files)})
    items = read_items(tmp_path / "out" / "index.parquet")
    assert [(item.path, item.classifications, item.width, item.height) for item in items] == [
        ("digits/1/c.png", {"class": "1"}, 8, 9),
        ("digits/7/a.png", {"class": "7"}, 32, 24),
        ("digits/7/b.png", {"class": "7"}, 32, 24),
    ]
    assert (result["state"], result["format"], result["type"]) == ("READY", "IMAGE_FOLDER", "CLASSIFICATION")
    assert result["classes"] == [
        {"key": "class", "value": "7", "count": 2},
        {"key": "class", "value": "1", "count": 1},
    ]
    assert result["item_count"] == result["report"]["items"] == 3
    assert result["size_bytes"] == sum(len(content) for content in files.values())
    for item, content in zip(items, (files[item.path] for item in items), strict=True):
        assert item.sha256 == hashlib.sha256(content).hexdigest()
        assert (tmp_path / "out" / "content" / item.sha256).read_bytes() == content
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"index.parquet", "content"}


def test_the_folder_above_the_classes_is_an_attribute(tmp_path: Path) -> None:
    imported(
        tmp_path, {"d/train/cat/1.png": png(seed=1), "d/val/cat/2.png": png(seed=2), "d/val/dog/3.png": png(seed=3)}
    )
    items = read_items(tmp_path / "out" / "index.parquet")
    assert [item.attributes for item in items] == [{"folder": "train"}, {"folder": "val"}, {"folder": "val"}]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, "UNANNOTATED"),
        ({"type": "CLASSIFICATION"}, "CLASSIFICATION"),
        ({"format": "IMAGE_FOLDER"}, "CLASSIFICATION"),
    ],
)
def test_a_single_folder_is_a_class_only_if_one_is_expected(
    tmp_path: Path, request_: dict[str, Any], expected: str
) -> None:
    assert imported(tmp_path, {"calibration/1.png": png(), "calibration/2.png": png()}, **request_)["type"] == expected


def test_images_are_stored_once(tmp_path: Path) -> None:
    result = imported(tmp_path, {"a/1.png": png(), "b/2.png": png()})
    assert result["item_count"] == 2
    assert result["size_bytes"] == len(png())
    assert len(list((tmp_path / "out" / "content").iterdir())) == 1


def test_an_image_that_is_not_one_is_left_out_with_a_warning(tmp_path: Path) -> None:
    whole = png(64, 64)
    files: dict[str, bytes | str] = {
        "a/good.png": png(),
        "a/text.jpg": "no image",
        "b/cut.png": whole[: len(whole) // 2],
        "b/empty.png": "",
    }
    result = imported(tmp_path, files | {"README.md": "about"})
    report = result["report"]
    assert result["item_count"] == 1
    assert report["dropped_items"] == 3
    for path in ("a/text.jpg", "b/cut.png", "b/empty.png", "README.md"):
        assert sum(path in warning for warning in report["warnings"]) == 1
    assert report["more_warnings"] == 0


def test_a_decompression_bomb_is_left_out(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 1, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10))) + chunk(b"IEND", b"")
    )
    result = imported(tmp_path, {"a/bomb.png": bomb, "a/fine.png": png()})
    assert result["report"]["dropped_items"] == 1
    assert "a/bomb.png" in result["report"]["warnings"][0]
    assert "pixels" in result["report"]["warnings"][0]


def test_an_import_without_an_item_is_rejected(tmp_path: Path) -> None:
    with refused("no usable item", "a.png"):
        imported(tmp_path, {"a.png": "no image"})


def test_warnings_end_at_ten_thousand(tmp_path: Path) -> None:
    outside = {"label": "a", "x": 90, "y": 90, "width": 1, "height": 1}
    boxes = [outside] * 10_200 + [outside | {"x": 0, "y": 0}]
    report = imported(tmp_path, {"a.png": png(), "a.jsonl": lines({"image": "a.png", "boxes": boxes})})["report"]
    assert len(report["warnings"]) == 10_000
    assert report["more_warnings"] == 200
    assert report["dropped_annotations"] == 10_200


def test_boxes_are_clipped_to_their_image(tmp_path: Path) -> None:
    boxes = [
        {"label": "inside", "x": 1, "y": 2, "width": 3, "height": 4, "crowd": True, "area": 7.5},
        {"label": "over", "x": 30, "y": -4, "width": 10, "height": 8, "area": 80},
        {"label": "outside", "x": 32, "y": 0, "width": 5, "height": 5},
        {"label": "flat", "x": 1, "y": 1, "width": 0, "height": 5},
        {"label": "rounded", "x": 0, "y": 0, "width": 32.01, "height": 24},
    ]
    result = imported(tmp_path, {"a.png": png(), "a.jsonl": lines({"image": "a.png", "boxes": boxes})})
    [item] = read_items(tmp_path / "out" / "index.parquet")
    assert [box.to_dict() for box in item.boxes] == [
        boxes[0],
        {"label": "over", "x": 30, "y": 0, "width": 2, "height": 4, "area": 8},
        {"label": "rounded", "x": 0, "y": 0, "width": 32, "height": 24},
    ]
    warnings = result["report"]["warnings"]
    assert len(warnings) == 3
    for warning, words in zip(warnings, ("box 2 ('over'", "box 3 ('outside'", "box 4 ('flat'"), strict=True):
        assert warning.startswith("a.png: ")
        assert words in warning
    assert (result["type"], result["report"]["boxes"]) == ("DETECTION", 3)
    assert result["report"]["dropped_annotations"] == 2


def test_lines_keep_classes_boxes_and_attributes(tmp_path: Path) -> None:
    values = {
        "image": "images/a.png",
        "classifications": {"digit": 7, "odd": True, "unsure": None},
        "attributes": {"scene": "night", "light": 0.5},
    }
    result = imported(tmp_path, {"data/images/a.png": png(), "data/a.jsonl": "\n" + lines(values) + "\n\n"})
    [item] = read_items(tmp_path / "out" / "index.parquet")
    assert item.classifications == {"digit": "7", "odd": "true"}
    assert item.attributes == {"scene": "night", "light": "0.5"}
    assert result["attributes"] == [
        {"key": "light", "value": "0.5", "count": 1},
        {"key": "scene", "value": "night", "count": 1},
    ]


def test_lines_for_missing_or_repeated_images_are_left_out(tmp_path: Path) -> None:
    text = lines({"image": "a.png"}, {"image": "b.png", "colour": 1}, {"image": "a.png"})
    report = imported(tmp_path, {"a.png": png(), "unused.png": png(), "a.jsonl": text})["report"]
    assert (report["items"], report["dropped_items"]) == (1, 2)
    said = "\n".join(report["warnings"])
    for words in (
        "line 2: 'b.png' is not among",
        "'colour' is unknown",
        "line 3: 'a.png' already occurs in a.jsonl, line 1",
    ):
        assert words in said


def test_what_is_exported_can_be_imported_again(tmp_path: Path) -> None:
    boxes = [{"label": "é", "x": 1.25, "y": 2, "width": 3, "height": 4, "area": 5, "crowd": True}]
    first = lines({"image": "ü/a.png", "boxes": boxes, "classifications": {"k": "v"}, "attributes": {"s": "t"}})
    imported(tmp_path / "1", {"ü/a.png": png(), "a.jsonl": first})
    items = read_items(tmp_path / "1" / "out" / "index.parquet")
    exported: dict[str, bytes | str] = {
        "annotations.jsonl": "\n".join(map(to_line, items)),
        **{item.path: png() for item in items},
    }
    imported(tmp_path / "2", {"export.zip": zipped(exported)})
    assert read_items(tmp_path / "2" / "out" / "index.parquet") == items


def test_tensors_are_exported_with_their_rows(tmp_path: Path) -> None:
    content = npz(x=[[1.0], [2.0], [3.0]], label=[5, 6, 7])
    imported(tmp_path / "1", {"a.npz": content})
    items = read_items(tmp_path / "1" / "out" / "index.parquet")[1:]
    text = "\n".join([*map(to_line, items), '{"tensors": "a.npz", "row": 9}'])
    report = imported(tmp_path / "2", {"annotations.jsonl": text, "a.npz": content})["report"]
    assert read_items(tmp_path / "2" / "out" / "index.parquet") == items
    assert report["dropped_items"] == 1
    assert "no row 9; it has 3" in report["warnings"][0]


def test_boxes_of_tensors_are_kept(tmp_path: Path) -> None:
    box = {"label": "a", "x": 900.0, "y": 2.0, "width": 30.0, "height": 4.0}
    flat = box | {"width": 0}
    text = lines({"tensors": "a.npz", "row": 1, "boxes": [box, flat]})
    report = imported(tmp_path, {"a.jsonl": text, "a.npz": npz(x=[1.0, 2.0])})["report"]
    (item,) = read_items(tmp_path / "out" / "index.parquet")
    assert [kept.to_dict() for kept in item.boxes] == [box]
    assert report["boxes"] == 1
    assert "box 2 ('a', 0 x 4 at 900, 2) has no area" in report["warnings"][0]


@pytest.mark.parametrize(("written", "meant"), [(None, False), (False, False), (0, False), (1, True), (True, True)])
def test_a_crowd_is_a_truth_value_and_an_area_may_be_unknown(tmp_path: Path, written: object, meant: bool) -> None:
    box = {"label": "a", "x": 1, "y": 2, "width": 3, "height": 4, "crowd": written, "area": -1}
    imported(tmp_path, {"a.png": png(), "a.jsonl": lines({"image": "a.png", "boxes": [box]})})
    (kept,) = read_items(tmp_path / "out" / "index.parquet")[0].boxes
    assert (kept.crowd, kept.area) == (meant, None)


@pytest.mark.parametrize(
    ("files", "request_", "words"),
    [
        ({"a.txt": "x"}, {}, ["not a dataset", "1 other file (a.txt)"]),
        ({"a.png": png(), "x.npz": npz(x=[1.0])}, {}, ["IMAGE_FOLDER or TENSOR_FILES", "State the format"]),
        ({"a.jsonl": "{}", "b.json": '{"images": [], "annotations": []}'}, {}, ["JSONL or COCO"]),
        ({"a.png": png()}, {"format": "COCO"}, ["not have the format COCO", "categories"]),
        ({"a.png": png()}, {"type": "DETECTION"}, ["type is DETECTION", "UNANNOTATED"]),
    ],
)
def test_wrong_formats_and_types_are_rejected(
    tmp_path: Path, files: dict[str, bytes | str], request_: dict[str, Any], words: list[str]
) -> None:
    with refused(*words):
        imported(tmp_path, files, **request_)


def test_unknown_names_are_rejected(tmp_path: Path) -> None:
    with refused("'VOC'", "COCO", reason=FailureReason.INVALID_SPEC):
        imported(tmp_path, {"a.png": png()}, format="VOC")


def test_images_without_a_suffix_are_found(tmp_path: Path) -> None:
    assert imported(tmp_path, {"images/0001": png()})["item_count"] == 1
