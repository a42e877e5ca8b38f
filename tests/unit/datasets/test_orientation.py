"""Images turned by EXIF data: boxes of the stored image are turned with it, if the annotated size tells."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.datasets.index import read_items
from engines.datasets.jsonl import to_line
from engines.imaging import decode
from tests.unit.datasets.kit import coco, coco_box, coco_image, imported, lines

STORED = (40, 20)
BOX = (4, 6, 8, 3)
"""x, y, width, height of the white area in the stored pixels."""


def photo(orientation: int, kind: str = "PNG", size: tuple[int, int] = STORED) -> bytes:
    from PIL import Image

    x, y, width, height = BOX
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[y : y + height, x : x + width] = 255
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(buffer, kind, exif=exif)
    return buffer.getvalue()


def annotated(orientation: int, bbox: Any, kind: str = "PNG", **size: int) -> dict[str, bytes | str]:
    values = coco([coco_image(1, "a.img", **size)], [coco_box(bbox=bbox)])
    return {"a.img": photo(orientation, kind), "x.json": json.dumps(values)}


def white(image: bytes) -> tuple[int, int, int, int]:
    """Where an image as it is shown is white: x, y, width, height."""
    rows, columns = np.nonzero(decode(image)[:, :, 0])
    return (
        int(columns.min()),
        int(rows.min()),
        int(np.ptp(columns)) + 1,
        int(np.ptp(rows)) + 1,
    )


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_of_stored_pixels_are_turned_with_the_image(tmp_path: Path, orientation: int, kind: str) -> None:
    result = imported(tmp_path, annotated(orientation, BOX, kind, width=STORED[0], height=STORED[1]))
    (item,) = read_items(tmp_path / "out" / "index.parquet")
    (box,) = item.boxes
    assert (box.x, box.y, box.width, box.height) == white(photo(orientation, kind))
    assert (item.width, item.height) == (20, 40)
    assert (result["report"]["turned_images"], result["report"]["warnings"]) == (1, [])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_of_the_displayed_image_stay_unchanged(tmp_path: Path, orientation: int) -> None:
    bbox = white(photo(orientation))
    width, height = (20, 40) if orientation > 4 else STORED
    result = imported(tmp_path, annotated(orientation, bbox, width=width, height=height))
    (box,) = read_items(tmp_path / "out" / "index.parquet")[0].boxes
    assert [box.x, box.y, box.width, box.height] == list(bbox)
    assert result["report"]["turned_images"] == 0
    assert len(result["report"]["warnings"]) == int(orientation in {2, 3, 4})


def test_if_the_size_does_not_tell_one_warning_states_the_assumption(tmp_path: Path) -> None:
    box = {"label": "a", "x": 1, "y": 1, "width": 3, "height": 3}
    files: dict[str, bytes | str] = {f"{n}.png": photo(6, size=(30, 30)) for n in range(7)}
    files["7.png"] = photo(6)
    written: list[Any] = [{"image": f"{n}.png", "width": 30, "height": 30, "boxes": [box]} for n in range(7)]
    files["a.jsonl"] = lines(*written, {"image": "7.png", "boxes": [box]})
    report = imported(tmp_path, files)["report"]
    (said,) = report["warnings"]
    assert said.startswith("8 images are rotated or flipped by EXIF data")
    assert "boxes of the displayed image: 0.png, 1.png, 2.png, 3.png, 4.png and 3 more" in said
    assert all(item.boxes[0].x == 1 for item in read_items(tmp_path / "out" / "index.parquet"))


def test_a_size_that_fits_neither_is_reported_and_an_export_fits(tmp_path: Path) -> None:
    report = imported(tmp_path / "1", annotated(6, BOX, width=80, height=40))["report"]
    assert "20 x 40 pixels, but its annotations say 80 x 40" in report["warnings"][0]
    (item,) = read_items(tmp_path / "1" / "out" / "index.parquet")
    again = imported(tmp_path / "2", {"a.img": photo(6), "a.jsonl": to_line(item)})
    assert again["report"]["warnings"] == []
    assert read_items(tmp_path / "2" / "out" / "index.parquet") == [item]
