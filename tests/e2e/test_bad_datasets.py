"""Data that is not what it should be: each import says what is wrong and where, and nothing of it is kept."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lathe.registry.v1 import dataset_service_pb2 as pb
from lathe.type.v1 import failure_pb2

from services.platform.words import from_values, word
from tests.e2e.beasts import archive, npz, png, tensors
from tests.e2e.calls import refusal
from tests.e2e.desk import Desk
from tests.eventually import wait_for

ANIMALS = {"template": "templates/tiny", "entries": [{"task": "animal", "key": "animal"}]}
SIDE = 60_000


def huge_png() -> bytes:
    """Return a PNG of a few bytes that says it has 3.6 thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def poisoned() -> bytes:
    """Return tensors with NaN in every row."""
    arrays = tensors()
    arrays["image"][:, 0, 0, 0] = np.nan
    return npz(arrays)


BAD: dict[str, tuple[Callable[[], bytes], str, str]] = {
    "no files at all": (lambda: archive({}), "data.zip", "contains no files"),
    "nothing but text": (lambda: archive({"readme.txt": b"cats"}), "data.zip", "readme.txt"),
    "no archive": (lambda: b"cats and dogs", "data.zip", "data.zip is not an archive"),
    "no image in it": (lambda: archive({"cat/1.png": b"a", "dog/2.png": b"b"}), "data.zip", "cat/1.png"),
    "image bombs alone": (lambda: archive({"cat/1.png": huge_png()}), "data.zip", "too many pixels"),
    "zip bomb": (lambda: archive({"cat/1.png": bytes(200 << 20)}), "data.zip", "decompression bomb"),
    "dots": (lambda: archive({"../cat/1.png": png(0), "dog/2.png": png(1)}), "data.zip", "'../cat/1.png'"),
    "NaN": (poisoned, "data.npz", "row 0: array 'image' contains NaN or infinity"),
}


@pytest.mark.parametrize("what", BAD)
def test_an_import_that_cannot_be_fails_and_keeps_nothing(desk: Desk, tmp_path: Path, what: str) -> None:
    make, name, said = BAD[what]
    before = desk.keys("cas/")
    file = desk.store(make(), tmp_path, name)
    made = desk.import_dataset(f"Bad: {what}", file)
    assert made.state == pb.DATASET_STATE_IMPORT_FAILED
    assert word(failure_pb2.FailureReason, made.failure.reason) == "INVALID_DATA"
    assert said in made.failure.message + made.failure.evidence
    assert made.failure.suggested_fix
    assert (made.item_count, made.index.sha256) == (0, "")
    assert {key.rpartition("/")[2] for key in desk.keys("cas/") - before} <= {file.digest.sha256}
    wait_for(desk.clean)  # a worker that has just ended a task of another test may have two children for a moment
    asked = pb.ListDatasetItemsRequest(parent=made.name)
    assert refusal(desk.rpc.datasets.ListDatasetItems, asked).code == "FAILED_PRECONDITION"
    desk.rpc.datasets.DeleteDataset(pb.DeleteDatasetRequest(name=made.name))
    again = desk.import_dataset(f"Bad: {what}", desk.store(archive({"cat/1.png": png(3)}), tmp_path, "good.zip"))
    assert (again.display_name, again.state) == (made.display_name, pb.DATASET_STATE_READY)
    desk.rpc.datasets.DeleteDataset(pb.DeleteDatasetRequest(name=again.name))


@pytest.mark.parametrize(
    ("bad", "said"), [(b"not an image", "not in a supported format"), (huge_png(), "too many pixels")]
)
def test_a_bad_image_among_good_ones_is_left_out_by_name(desk: Desk, tmp_path: Path, bad: bytes, said: str) -> None:
    file = desk.store(archive({"cat/bad.png": bad, "cat/1.png": png(0), "dog/2.png": png(1)}), tmp_path)
    made = desk.import_dataset(f"One bad: {said}", file)
    assert (made.state, made.item_count, made.report.dropped_items) == (pb.DATASET_STATE_READY, 2, 1)
    (warning,) = made.report.warnings
    assert warning.startswith("cat/bad.png: ")
    assert said in warning
    desk.rpc.datasets.DeleteDataset(pb.DeleteDatasetRequest(name=made.name))


def test_boxes_outside_their_image_are_named(desk: Desk, tmp_path: Path) -> None:
    boxes = [
        {"label": "cat", "x": 20, "y": 2, "width": 5, "height": 4},
        {"label": "dog", "x": 8, "y": 2, "width": 30, "height": 4},
        {"label": "hen", "x": 1, "y": 1, "width": 2, "height": 2},
    ]
    lines = json.dumps({"image": "a.png", "boxes": boxes}).encode()
    made = desk.import_dataset("Boxes", desk.store(archive({"annotations.jsonl": lines, "a.png": png(0)}), tmp_path))
    assert (made.state, made.report.boxes) == (pb.DATASET_STATE_READY, 2)
    outside, over = made.report.warnings
    assert "box 1 ('cat'" in outside
    assert "12 x 8" in outside
    assert "box 2 ('dog'" in over
    (item,) = desk.rpc.datasets.ListDatasetItems(pb.ListDatasetItemsRequest(parent=made.name)).items
    assert [(box.label, box.x, box.width) for box in item.boxes] == [("dog", 8, 4), ("hen", 1, 2)]
    desk.rpc.datasets.DeleteDataset(pb.DeleteDatasetRequest(name=made.name))


def test_a_class_that_no_one_mapped_is_counted_and_asked_about(desk: Desk, tmp_path: Path) -> None:
    names = ["cat", "unicorn", "dog", "unicorn"]
    lines = [json.dumps({"image": f"{n}.png", "classifications": {"animal": name}}) for n, name in enumerate(names)]
    files = {f"{n}.png": png(n) for n in range(4)}
    file = desk.store(archive({"annotations.jsonl": "\n".join(lines).encode()} | files), tmp_path)
    made = desk.import_dataset("Unicorns", file, mapping=from_values(ANIMALS, pb.ClassMapping()))
    assert made.state == pb.DATASET_STATE_AWAITING_CONFIRMATION
    dropped, missing = made.report.dropped_values, made.report.missing_classes
    assert [(each.key, each.value, each.count) for each in dropped] == [("animal", "unicorn", 2)]
    assert {each.value for each in missing} == {"hen", "cow"}
    assert made.report.warnings
    desk.rpc.datasets.ConfirmDatasetImport(pb.ConfirmDatasetImportRequest(name=made.name))
    settled = pb.GetDatasetRequest(name=made.name)
    wait_for(lambda: desk.rpc.datasets.GetDataset(settled).state != pb.DATASET_STATE_IMPORTING)
    found = desk.rpc.datasets.GetDataset(settled)
    assert (found.state, found.item_count, found.report.dropped_items) == (pb.DATASET_STATE_READY, 2, 2)
    desk.rpc.datasets.DeleteDataset(pb.DeleteDatasetRequest(name=made.name))


@pytest.mark.parametrize(
    ("mapping", "field", "said"),
    [
        (
            {"entries": [{"task": task, "key": "class", "classes": ["cat"]} for task in ("animal", "pet")]},
            "dataset.mapping.entries",
            "a key can be used once",
        ),
        (
            {"entries": [{"task": "animal", "key": key, "classes": ["cat"]} for key in ("class", "kind")]},
            "dataset.mapping.entries",
            "a task can be mapped once",
        ),
        (
            {"template": "templates/tiny", "entries": [{"task": "plant", "key": "class"}]},
            "dataset.mapping.entries[0].task",
            "it has: animal",
        ),
    ],
    ids=["key twice", "task twice", "no such task"],
)
def test_a_mapping_that_cannot_be(
    desk: Desk, tmp_path: Path, mapping: dict[str, object], field: str, said: str
) -> None:
    file = desk.store(archive({"cat/1.png": png(0), "dog/2.png": png(1)}), tmp_path)
    asked = pb.Dataset(display_name="Never", files=[file], mapping=from_values(mapping, pb.ClassMapping()))
    refused = refusal(desk.rpc.datasets.CreateDataset, pb.CreateDatasetRequest(dataset=asked))
    assert (refused.code, refused.fields) == ("INVALID_ARGUMENT", (field,))
    assert said in refused.message
    found = refusal(desk.rpc.datasets.GetDataset, pb.GetDatasetRequest(name="datasets/never"))
    assert found.code == "NOT_FOUND"
