"""Detection of the format of pushed files, and their names."""

import os
from pathlib import Path

import pytest

from services.cli.failures import CliError
from services.cli.formats import format_of
from services.cli.packing import files_of


def test_the_given_format_takes_precedence(tmp_path: Path) -> None:
    assert format_of("saved_model", [tmp_path / "m.onnx"]) == "SAVED_MODEL"
    with pytest.raises(CliError, match="'h5' is not a format; give --format, one of: PTH, TORCHSCRIPT"):
        format_of("h5", [tmp_path])


def test_files_tell_their_format(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert format_of("", [tmp_path]) == "HUGGINGFACE"
    graph = tmp_path / "frozen.pbtxt"
    graph.write_text('node { name: "x" op: "Placeholder" }')
    assert format_of("", [graph]) == "FROZEN_GRAPH"


def test_suffixes_tell_the_format_if_files_do_not(tmp_path: Path) -> None:
    for name in ("m.onnx", "m.data", "m.pth"):
        (tmp_path / name).write_bytes(b"cut off")
    assert format_of("", [tmp_path / "m.onnx"]) == "ONNX", "the registry says what is wrong with it"
    assert format_of("", [tmp_path / "m.onnx", tmp_path / "m.data"]) == "ONNX"
    with pytest.raises(CliError, match="endings do not tell the format"):
        format_of("", [tmp_path / "m.onnx", tmp_path / "m.pth"])
    (tmp_path / "m.bin").write_text("hello")
    with pytest.raises(CliError, match=r"'m\.bin' looks like a text file; give --format"):
        format_of("", [tmp_path / "m.bin"])


def test_missing_files_are_reported(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"x")
    for paths in ([tmp_path / "absent"], [tmp_path / "m.onnx", tmp_path / "absent.data"]):
        with pytest.raises(CliError, match=r"absent[.a-z]*: there is no such file or folder"):
            format_of("", paths)


def test_names_that_are_not_in_utf8_are_rejected(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"m\xff.bin")).write_bytes(b"x")
    with pytest.raises(CliError, match=r"m.\.bin: the file name is not UTF-8"):
        list(files_of([tmp_path]))


def test_a_link_to_a_folder_that_holds_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    os.symlink(tmp_path / "a", tmp_path / "a" / "b" / "again")
    with pytest.raises(CliError, match="again is a link to a folder that holds it"):
        list(files_of([tmp_path]))


def test_names_of_files_in_folders(tmp_path: Path) -> None:
    blob = tmp_path / "blobs" / "0123"
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    blob.parent.mkdir()
    blob.write_bytes(b"w")
    os.symlink(blob, folder / "variables" / "variables.index")
    (folder / "saved_model.pb").write_bytes(b"g")
    (folder / ".gitattributes").write_bytes(b"")
    assert [name for name, _ in files_of([folder])] == ["saved_model.pb", "variables/variables.index"]
    assert [name for name, _ in files_of([folder / "variables" / "variables.index"])] == ["variables.index"]
    assert [name for name, _ in files_of([folder, blob])] == [
        "0123",
        "model/saved_model.pb",
        "model/variables/variables.index",
    ]
