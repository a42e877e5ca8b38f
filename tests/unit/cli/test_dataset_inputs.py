"""Folders become archives, and options become steps."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from lathe.registry.v1.dataset_service_pb2 import SampleItems

from services.cli.dataset_inputs import class_mapping, steps_of
from services.cli.failures import CliError
from services.cli.names import dataset_name, item_name
from services.cli.packing import needs_packing, pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    for name in ("cat/2.png", "cat/1.png", "dog/1.png", ".hidden/x", "dog/.DS_Store"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())
    return root


def names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as packed:
        return packed.namelist()


def test_a_folder_is_packed_without_its_own_name(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    assert needs_packing([folder])
    assert pack([folder], archive) == 3
    assert names(archive) == ["cat/1.png", "cat/2.png", "dog/1.png"]


def test_several_paths_are_packed_side_by_side(folder: Path, tmp_path: Path) -> None:
    notes = tmp_path / "annotations.json"
    notes.write_text("{}")
    archive = tmp_path / "a.zip"
    pack([notes, folder / "cat"], archive)
    assert sorted(names(archive)) == ["annotations.json", "cat/1.png", "cat/2.png"]


def test_the_same_files_are_the_same_archive(folder: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.zip", tmp_path / "b.zip"
    pack([folder], first)
    (folder / "cat" / "1.png").touch()
    pack([folder], second)
    assert first.read_bytes() == second.read_bytes()


def test_paths_that_cannot_be_packed_are_reported(folder: Path, tmp_path: Path) -> None:
    for paths in ([tmp_path / "absent"], [folder / "cat", folder / ".hidden" / ".." / "cat"]):
        with pytest.raises(CliError):
            pack(paths, tmp_path / "a.zip")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CliError, match="no files"):
        pack([tmp_path / "empty"], tmp_path / "a.zip")


def test_options_become_steps(tmp_path: Path) -> None:
    file = tmp_path / "steps.yaml"
    file.write_text("steps: [{drop_classes: {key: label, classes: [x]}}]")
    steps = steps_of(
        file, ["label:car,truck=vehicle"], ["label:person"], ["scene=night,dusk"], ["camera=3"], SampleItems(count=5)
    )
    assert [step.WhichOneof("step") for step in steps] == [
        "drop_classes",
        "merge_classes",
        "drop_classes",
        "filter",
        "filter",
        "sample",
    ]
    merged, kept, left = steps[1].merge_classes, steps[3].filter, steps[4].filter
    assert (merged.key, list(merged.classes), merged.into) == ("label", ["car", "truck"], "vehicle")
    assert (list(kept.values), kept.exclude, left.exclude) == (["night", "dusk"], False, True)


@pytest.mark.parametrize(
    ("merge", "drop", "keep"),
    [(["label"], [], []), (["label:a="], [], []), (["=b"], [], []), ([], ["label"], []), ([], [], ["scene:night"])],
)
def test_invalid_derivation_steps_are_rejected(merge: list[str], drop: list[str], keep: list[str]) -> None:
    with pytest.raises(CliError, match=r"such as|names no class"):
        steps_of(None, merge, drop, keep, [], None)


def test_a_mapping_is_combined_from_file_and_options(tmp_path: Path) -> None:
    assert class_mapping(None, "", []) is None
    file = tmp_path / "mapping.yaml"
    file.write_text("template: animals\nentries: [{task: a, key: b, values: {hound: dog}}]")
    mapping = class_mapping(file, "", ["size=scale"])
    assert mapping is not None
    assert mapping.template == "templates/animals"
    assert [(entry.task, entry.key) for entry in mapping.entries] == [("a", "b"), ("size", "scale")]
    with pytest.raises(CliError, match="--map 'size' must be key=value"):
        class_mapping(None, "t", ["size"])


def test_typed_names_are_completed() -> None:
    assert dataset_name("digits") == dataset_name("datasets/digits") == "datasets/digits"
    assert item_name("digits/7") == item_name("datasets/digits/items/7") == "datasets/digits/items/7"
    for wrong in ("digits", "digits/seven", "digits/"):
        with pytest.raises(CliError, match="is not an item"):
            item_name(wrong)
