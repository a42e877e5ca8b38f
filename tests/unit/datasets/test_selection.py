"""Selections as workers read them, and drawn items."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from engines.datasets import preview
from engines.datasets.contents import CONTENT
from engines.datasets.index import INDEX, choose, write_index
from engines.datasets.items import Box, Item
from engines.datasets.selection import Selection, unpack_selection
from engines.failures import FailureReason
from engines.imaging import decode
from tests.unit.datasets.kit import imported, lines, npz, png, refused, silent, write, zipped


def test_a_selection_reads_chosen_items(tmp_path: Path) -> None:
    files = {f"{number % 2}/{number}.png": png(seed=number) for number in range(6)}
    imported(tmp_path, {"upload.zip": zipped(files)})
    (tmp_path / "chosen").mkdir()
    choose(tmp_path / "out" / INDEX, tmp_path / "chosen" / INDEX, 3, 1)
    (tmp_path / "out" / CONTENT).rename(tmp_path / "chosen" / CONTENT)
    selection = Selection(tmp_path / "chosen")
    assert len(selection.items) == 3
    assert not selection.is_tensors
    for item in selection.items:
        np.testing.assert_array_equal(selection.image(item), decode(files[item.path]))


@pytest.mark.parametrize(
    ("content", "paths"),
    [
        (zipped({"a.png": png(), "d/b.png": png(seed=1)}), ["a.png", "d/b.png"]),
        (png(), ["images.bin"]),
        (npz(x=[1.0, 2.0]), ["images.bin", "images.bin"]),
        (zipped({"a.png": png(), "x.jsonl": lines({"image": "a.png", "classifications": {"digit": "7"}})}), ["a.png"]),
    ],
)
def test_an_upload_is_unpacked_into_a_selection(tmp_path: Path, content: bytes, paths: list[str]) -> None:
    write(tmp_path, {"images.bin": content})
    selection = unpack_selection(tmp_path / "images.bin", tmp_path / "selection")
    assert [item.path for item in selection.items] == paths
    if selection.is_tensors:
        assert selection.tensors(selection.items[1])["x"] == 2.0
    else:
        assert selection.image(selection.items[0]).shape == (24, 32, 3)


def test_annotations_of_an_upload_are_used(tmp_path: Path) -> None:
    text = lines({"image": "a.png", "classifications": {"digit": "7"}})
    write(tmp_path, {"images.bin": zipped({"a.png": png(), "x.jsonl": text})})
    [item] = unpack_selection(tmp_path / "images.bin", tmp_path / "s").items
    assert item.classifications == {"digit": "7"}


def test_parts_of_an_upload_that_are_left_out_are_reported(tmp_path: Path) -> None:
    write(tmp_path, {"images.bin": npz(x=[1.0, np.nan, 2.0])})
    selection = unpack_selection(tmp_path / "images.bin", tmp_path / "s")
    assert [item.row for item in selection.items] == [0, 2]
    (said,) = selection.warnings
    assert said.startswith("Left out of the uploaded file: 1 item. images.bin, row 1: array 'x' contains NaN")


@pytest.mark.parametrize("content", [b"", b"nothing at all", zipped({"a.txt": "x"})])
def test_an_upload_without_images_is_rejected(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, {"images.bin": content})
    with refused("not a dataset"):
        unpack_selection(tmp_path / "images.bin", tmp_path / "s")


def test_an_empty_selection_is_rejected(tmp_path: Path) -> None:
    write_index(tmp_path / INDEX, [])
    with refused("contains no items"):
        _ = Selection(tmp_path).items


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_index(tmp_path / INDEX, [Item("a.png", "0" * 64, 1, 3, 3)])
    selection = Selection(tmp_path)
    with refused("a.png", reason=FailureReason.INPUT_UNAVAILABLE):
        selection.image(selection.items[0])
    write(tmp_path / CONTENT, {"0" * 64: "no image"})
    with refused("a.png: The image is not in a supported format"):
        selection.image(selection.items[0])


def test_an_item_is_drawn_large_enough_to_see(tmp_path: Path) -> None:
    from PIL import Image

    write(tmp_path, {"image.bin": png(32, 24)})
    boxes = (Box("seven", 2, 3, 10, 12), Box("crowd", 15, 5, 10, 10, crowd=True))
    item = Item("a.png", "0" * 64, 1, 32, 24, {"digit": "7"}, boxes, {"scene": "Nacht"})
    assert preview.run({"image": "image.bin", "item": item.to_dict()}, tmp_path, silent()) == {
        "path": "out/annotated.png"
    }
    drawn = Image.open(io.BytesIO((tmp_path / "out" / "annotated.png").read_bytes()))
    assert drawn.width == 320
    assert drawn.height > 240
