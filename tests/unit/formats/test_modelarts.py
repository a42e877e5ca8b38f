"""ModelArts' input directories: what they hold, and every rule that one breaks."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines.failures import EngineFailure
from engines.formats.modelarts import AIPP, InputDirectory, read_input
from tests.unit.formats.tensorflow_bytes import const, node, write_graph, write_saved_model


def frozen(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_graph(path, node("x", "Placeholder", shape=[1, 4]), node("y", "Identity", ["x"]))


def saved(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_saved_model(folder, const("w", [2]), signatures=["serving_default"])
    for name in ("variables.index", "variables.data-00000-of-00001"):
        touch(folder / "variables" / name)
    return folder


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def caffe(folder: Path) -> Path:
    touch(folder / "net.prototxt", b'layer { name: "x" type: "Input" }')
    touch(folder / "net.caffemodel")
    return folder


def remove(path: Path) -> Path:
    path.unlink()
    return path


def empty(path: Path) -> Path:
    path.mkdir()
    return path


def data(folder: Path) -> Path:
    (folder / "calibration_data").mkdir()
    np.save(folder / "calibration_data/a.npy", np.zeros((1, 4), np.float32))
    return folder


def names(found: InputDirectory) -> list[str]:
    return [path.name for path in found.model]


def test_a_frozen_graph_for_arm_or_gpu_with_its_calibration_data(tmp_path: Path) -> None:
    frozen(tmp_path / "model/net.pb")
    found = read_input(data(tmp_path))
    assert (found.format, names(found)) == ("FROZEN_GRAPH", ["net.pb"])
    assert (found.calibration, found.aipp, found.plugin) == (tmp_path / "calibration_data", None, None)


def test_a_saved_model_for_arm_or_gpu(tmp_path: Path) -> None:
    saved(tmp_path / "model")
    touch(tmp_path / "model/fingerprint.pb")
    found = read_input(tmp_path)
    assert (found.format, names(found)) == ("SAVED_MODEL", ["fingerprint.pb", "saved_model.pb", "variables"])


def test_models_for_ascend_with_a_file_of_aipp_and_operators(tmp_path: Path) -> None:
    for make, name, files in (
        (caffe, "CAFFE", ["net.caffemodel", "net.prototxt"]),
        (saved, "SAVED_MODEL", ["saved_model.pb", "variables"]),
        (lambda folder: frozen(folder / "net.pb"), "FROZEN_GRAPH", ["net.pb"]),
        (lambda folder: touch(folder / "net.onnx", b"\x08\x08\x12\x00"), "ONNX", ["net.onnx"]),
    ):
        folder = tmp_path / name
        touch(folder / AIPP)
        touch(folder / "plugin/op.so")
        make(folder)
        found = read_input(folder)
        assert (found.format, names(found)) == (name, files)
        assert (found.aipp, found.plugin) == (folder / AIPP, folder / "plugin")


BROKEN: list[tuple[Callable[[Path], object], list[str]]] = [
    (lambda here: touch(here / "readme.md"), ["no files *.pb", "exactly one", "'readme.md' is no part of the model"]),
    (lambda here: touch(here / "net.pb", b"no graph"), ["'net.pb' is no frozen graph"]),
    (
        lambda here: [frozen(here / "a.pb"), frozen(here / "b.pb")],
        ["2 files *.pb (a.pb, b.pb)"],
    ),
    (
        lambda here: [caffe(here), touch(here / "other.caffemodel"), touch(here / "net.pb")],
        ["2 files *.caffemodel (net.caffemodel, other.caffemodel)", "'net.pb' belongs to no Caffe model"],
    ),
    (lambda here: touch(here / "net.caffemodel"), ["no files *.prototxt, and there has to be exactly one, the net"]),
    (
        lambda here: [caffe(here), touch(here / "aipp.cfg"), touch(here / "plugin")],
        ["'aipp.cfg' has to be called 'insert_op_conf.cfg'", "'plugin' is a file"],
    ),
    (lambda here: [caffe(here), touch(here / AIPP / "x")], ["'insert_op_conf.cfg' is a folder"]),
    (lambda here: touch(here / "net.onnx"), ["'net.onnx' is no ONNX model"]),
    (lambda here: touch(here / "model"), ["ARM and GPU", "no folder 'model/'"]),
    (
        lambda here: [frozen(here / "model/net.pb"), touch(here / "notes.txt"), touch(here / "model/more.txt")],
        ["'notes.txt' is beside 'model/'", "'model/more.txt' is no part of the model"],
    ),
    (
        lambda here: [
            saved(here / "elsewhere"),
            touch(here / "model/net.pb", (here / "elsewhere/saved_model.pb").read_bytes()),
        ],
        ["'model/net.pb' is the file of a SavedModel, which has to be called saved_model.pb"],
    ),
    (
        lambda here: [
            saved(here / "model"),
            remove(here / "model/variables/variables.index"),
            touch(here / "model/a.h5"),
        ],
        ["'model/variables/variables.index' is missing", "'model/a.h5' belongs to no SavedModel"],
    ),
    (
        lambda here: [
            saved(here / "model"),
            (here / "model/variables/variables.data-00000-of-00001").rename(
                here / "model/variables/variables.data-00001-of-00003"
            ),
        ],
        ["data-00000-of-00003' is missing", "data-00002-of-00003' is missing"],
    ),
    (
        lambda here: touch(here / "model/variables/variables.data-00000-of-00001"),
        ["'model/saved_model.pb' is missing"],
    ),
    (
        lambda here: [
            frozen(here / "model/net.pb"),
            touch(here / "calibration_data/a.npy"),
            touch(here / "calibration_data/b.jpg"),
        ],
        ["'calibration_data/a.npy' is no array", "'calibration_data/b.jpg' is no file *.npy"],
    ),
    (
        lambda here: [frozen(here / "model/net.pb"), empty(here / "calibration_data")],
        ["'calibration_data/' is empty"],
    ),
]


@pytest.mark.parametrize(("make", "said"), BROKEN)
def test_every_rule_that_a_directory_breaks_is_named_with_its_file(
    make: Callable[[Path], object], said: list[str], tmp_path: Path
) -> None:
    make(tmp_path)
    with pytest.raises(EngineFailure) as caught:
        read_input(tmp_path)
    assert [words for words in said if words not in caught.value.message] == []


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="is no directory"):
        read_input(touch(tmp_path / "net.pb"))


def _piped(folder: Path) -> None:
    frozen(folder / "model" / "a.pb")
    (folder / "calibration_data").mkdir()
    os.mkfifo(folder / "calibration_data" / "a.npy")


def _coded(folder: Path) -> None:
    frozen(folder / "a.pb")
    touch(folder / "customize_service.py", b"import os; os.system('touch PWNED')")
    touch(folder / "config.json", b"[" * (1 << 20))


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe for an array": (_piped, "'calibration_data/a.npy' is no file *.npy"),
    "a pipe for a model": (lambda folder: os.mkfifo(folder / "a.pb"), "'a.pb' is no part of the model"),
    "code beside a model": (_coded, "'config.json' is no part of the model; 'customize_service.py' is no part"),
    "a model without end": (lambda folder: os.symlink("/dev/zero", folder / "a.pb"), "'a.pb' is no part of the model"),
    "a folder in itself": (lambda folder: os.symlink(".", folder / "model"), "'model/model' is no part of the model"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_directories_are_refused_and_nothing_of_them_is_run(name: str, tmp_path: Path) -> None:
    make, words = HOSTILE[name]
    make(tmp_path)
    with pytest.raises(EngineFailure, match=re.escape(words)):
        read_input(tmp_path)
