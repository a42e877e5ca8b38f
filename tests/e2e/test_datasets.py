"""Datasets as a person handles them: a folder goes in, is looked at, is derived from, and comes out again."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from tests.contract.registry.dataset_desk import image_folder, png, scenes
from tests.e2e.conftest import Suite


@pytest.fixture(scope="module")
def pets(stack: Suite, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of a dataset that was made from a folder."""
    folder = tmp_path_factory.mktemp("pets")
    with zipfile.ZipFile(io.BytesIO(image_folder(("cat", "dog"), each=3))) as packed:
        packed.extractall(folder)
    made = stack.json("datasets", "create", "Pets", str(folder), "--label", "team=a", "--description", "Cats, dogs")
    assert (made["state"], made["item_count"], made["format"]) == (
        "DATASET_STATE_READY",
        "6",
        "DATASET_FORMAT_IMAGE_FOLDER",
    )
    return str(made["name"].removeprefix("datasets/"))


def test_a_dataset_is_found_and_shown(stack: Suite, pets: str) -> None:
    assert [each["name"] for each in stack.json("datasets", "list", "--state", "ready", "--search", "pets")] == [
        f"datasets/{pets}"
    ]
    shown = stack.lathe("datasets", "get", pets).stdout
    assert "Cats, dogs" in shown
    assert "cat" in shown
    items = stack.json("datasets", "items", pets, "--filter", "classifications.class = dog")
    assert [item["path"] for item in items] == [f"dog/{number}.png" for number in range(3)]
    assert stack.json("datasets", "update", pets, "--description", "Pets")["description"] == "Pets"


def test_an_item_is_drawn(stack: Suite, pets: str, tmp_path: Path) -> None:
    target = tmp_path / "item.png"
    stack.lathe("datasets", "preview", f"{pets}/2", "--file", str(target))
    assert target.read_bytes().startswith(b"\x89PNG")


def test_a_dataset_is_derived_and_fetched(stack: Suite, pets: str, tmp_path: Path) -> None:
    derived = stack.json("datasets", "derive", "Few pets", pets, "--drop", "class:cat", "--sample", "2", "--seed", "1")
    assert (derived["state"], derived["item_count"]) == ("DATASET_STATE_READY", "2")
    target = tmp_path / "few.zip"
    told = stack.json("datasets", "download", derived["name"], "--file", str(target))
    assert int(told["size_bytes"]) == target.stat().st_size
    with zipfile.ZipFile(target) as packed:
        lines = packed.read("annotations.jsonl").splitlines()
        assert all(json.loads(line)["image"] in packed.namelist() for line in lines)
    again = stack.json("datasets", "create", "Few pets again", str(target))
    assert again["item_count"] == "2"


def test_a_mapping_that_does_not_fit_asks(stack: Suite, tmp_path: Path) -> None:
    data, mapping = tmp_path / "street.zip", tmp_path / "mapping.yaml"
    data.write_bytes(scenes(4))
    mapping.write_text("entries: [{task: vehicle, key: label, classes: [car]}]")
    asked = stack.lathe("datasets", "create", "Street", str(data), "--mapping", str(mapping), check=False)
    assert asked.returncode == 7
    assert "truck" in asked.stdout
    assert "lathe datasets confirm" in asked.stderr
    assert stack.json("datasets", "get", "street")["state"] == "DATASET_STATE_AWAITING_CONFIRMATION"
    confirmed = stack.json("datasets", "confirm", "street")
    assert confirmed["state"] == "DATASET_STATE_READY"
    stack.lathe("datasets", "delete", "street")
    assert stack.lathe("datasets", "get", "street", check=False).returncode == 3
    assert (
        stack.json("datasets", "create", "Street", str(data), "--mapping", str(mapping), "--yes")["state"]
        == "DATASET_STATE_READY"
    )


def test_mistakes_are_told(stack: Suite, pets: str, tmp_path: Path) -> None:
    broken = tmp_path / "cat"
    broken.mkdir()
    (broken / "1.png").write_bytes(b"no image")
    failed = stack.lathe("datasets", "create", "Broken", str(tmp_path), check=False)
    assert failed.returncode == 5
    assert "INVALID_DATA" in failed.stderr
    (broken / "1.png").write_bytes(png(1))
    for code, arguments in (
        (1, ["create", "Nothing", str(tmp_path / "absent")]),
        (2, ["create", "Pets 2", str(tmp_path), "--format", "JPEG"]),
        (2, ["derive", "Pets 2", pets, "--keep", "scene"]),
        (2, ["preview", pets]),
        (2, ["create", "Pets 2", str(tmp_path), "--map", "animal=class"]),
        (7, ["create", "PETS", str(tmp_path)]),
    ):
        done = stack.lathe("datasets", *arguments, check=False)
        assert done.returncode == code, (arguments, done.stderr)
        assert "error: " in done.stderr
        assert "Traceback" not in done.stderr
