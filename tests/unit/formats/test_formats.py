"""Formats are detected from the files themselves, and files in another format than stated are refused."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from lathe.registry.v1.model_service_pb2 import ModelFormat

from engines.failures import EngineFailure, FailureReason
from engines.formats import CONVERTIBLE, FORMATS
from engines.formats.detection import check_format, detect
from engines.formats.files import read_json
from engines.formats.reading import check_sources
from engines.spec.request import ConversionRequest
from services.platform.words import words

_GRAPH = b"\x0a\x12\x0a\x01x\x12\x0bPlaceholder" + b"\x00" * 20
_SAVED = b"\x08\x01\x12\x10\x0a\x0e" + b"\x00" * 20
_ONNX = b"\x08\x0a\x12\x07pytorch" + b"\x00" * 20


def _zip(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"model/{name}", b"x")


def _json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(values))


def _huggingface(folder: Path) -> None:
    _json(folder / "config.json", model_type="bert", architectures=["BertModel"])
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_bytes(_ONNX)


def _caffe(folder: Path) -> None:
    (folder / "net.caffemodel").write_bytes(b"\x0a\x03net\xa2\x06\x06\x0a\x04conv")
    (folder / "deploy.prototxt").write_text('name: "net"\nlayer {\n  name: "conv"\n}\n')
    (folder / "solver.prototxt").write_text("base_lr: 0.1\n")


WRITERS: dict[str, Callable[[Path], object]] = {
    "PTH": lambda folder: _zip(folder / "model.pth", "data.pkl"),
    "TORCHSCRIPT": lambda folder: _zip(folder / "model.pt", "data.pkl", "constants.pkl"),
    "EXPORTED_PROGRAM": lambda folder: _zip(folder / "model.pt2", "archive_format"),
    "ONNX": lambda folder: (folder / "model.onnx").write_bytes(_ONNX),
    "HUGGINGFACE": _huggingface,
    "SAVED_MODEL": lambda folder: (folder / "saved_model.pb").write_bytes(_SAVED),
    "FROZEN_GRAPH": lambda folder: (folder / "graph.pb").write_bytes(_GRAPH),
    "CAFFE": _caffe,
    "PACKAGE": lambda folder: _json(folder / "manifest.json", schema_version=1, components=[]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_format_is_told_from_its_files(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    assert detect(tmp_path) == name
    check_format(tmp_path, name)


@pytest.mark.parametrize("name", ["PTH", "TORCHSCRIPT", "EXPORTED_PROGRAM", "ONNX", "FROZEN_GRAPH"])
def test_one_file_is_enough(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    assert detect(next(tmp_path.iterdir())) == name


@pytest.mark.parametrize("claimed", WRITERS)
def test_a_plain_pickle_is_no_format_and_the_message_says_so(tmp_path: Path, claimed: str) -> None:
    (tmp_path / "model.pt").write_bytes(pickle.dumps({"weights": [1.0]}))
    with pytest.raises(EngineFailure, match=r"'model.pt' looks like a Python pickle") as raised:
        check_format(tmp_path, claimed)
    assert raised.value.reason is FailureReason.INVALID_MODEL
    assert raised.value.suggested_fix
    with pytest.raises(EngineFailure, match=r"cannot be detected: 'model.pt' looks like a Python pickle"):
        detect(tmp_path)


def test_a_state_dict_said_to_be_torchscript_names_its_own_format(tmp_path: Path) -> None:
    WRITERS["PTH"](tmp_path)
    with pytest.raises(
        EngineFailure, match=r"TorchScript archive, but 'model.pth' looks like a file of torch"
    ) as raised:
        check_format(tmp_path, "TORCHSCRIPT")
    assert "its format is PTH" in raised.value.suggested_fix


def test_a_huggingface_directory_may_be_read_as_the_onnx_in_it(tmp_path: Path) -> None:
    _huggingface(tmp_path)
    check_format(tmp_path, "ONNX")


def test_weights_without_a_configuration_are_named(tmp_path: Path) -> None:
    _huggingface(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(EngineFailure, match=r"'model.safetensors', and no config.json"):
        check_format(tmp_path, "HUGGINGFACE")


def test_a_pipeline_is_a_huggingface_directory(tmp_path: Path) -> None:
    _json(tmp_path / "model_index.json", _class_name="StableDiffusionPipeline")
    assert detect(tmp_path) == "HUGGINGFACE"


def test_nothing_and_files_of_no_bytes_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match=r"has no file"):
        detect(tmp_path)
    (tmp_path / "model.onnx").touch()
    with pytest.raises(EngineFailure, match=r"'model.onnx' looks like an empty file"):
        check_format(tmp_path, "ONNX")


@pytest.mark.parametrize(("text", "words"), [("[1]", "holds a list"), ("{", "Expecting"), ("[" * 99999, "recursion")])
def test_a_configuration_that_is_no_json_object_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(EngineFailure, match=f"'config.json' is not a JSON object: .*{words}"):
        read_json(path)


def test_what_is_nearly_a_model_is_told_what_to_do(tmp_path: Path) -> None:
    _zip(tmp_path / "net.keras", "x")
    with zipfile.ZipFile(tmp_path / "net.keras", "a") as archive:
        archive.writestr("model.weights.h5", b"x")
    with pytest.raises(EngineFailure, match="looks like a Keras model") as caught:
        detect(tmp_path)
    assert "model.export(folder)" in caught.value.suggested_fix
    (tmp_path / "net.keras").unlink()
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(_SAVED)
    with pytest.raises(EngineFailure) as caught:
        detect(tmp_path)
    assert caught.value.suggested_fix == "There is a model in '1': upload that folder."
    for name, advice in (("config.json", "holds no JSON object"), ("adapter_config.json", "merge_and_unload()")):
        (tmp_path / name).write_text("[]")
        with pytest.raises(EngineFailure) as caught:
            detect(tmp_path)
        assert advice in caught.value.suggested_fix


def _request(source_format: str = "PTH", source_file: str = "", **values: object) -> ConversionRequest:
    component = {"name": "net", "source_file": source_file, "inputs": [{"name": "x", "shape": [1, 3]}]}
    template = {"source_format": source_format, "device": "cpu-x86-64", "runtime": "openvino"}
    architecture = {"class_name": "Net", "function": "build", "source_path": "architecture/a.py"}
    request = {"inputs": [{"path": "source/a.pth"}], "template": {**template, "components": [component]}}
    return ConversionRequest.parse({**request, "architectures": {"net": architecture}, **values})


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (_request(source_file="b.pth"), "reads 'source/b.pth'; the model version has source/a.pth"),
        (_request(inputs=[]), "has 0 files"),
        (_request(architectures={}), "has no architecture"),
        (_request("PACKAGE"), "the format PACKAGE cannot be read"),
        (_request("FLAX"), "these can: PTH"),
    ],
)
def test_a_component_without_a_source_is_refused(request_: ConversionRequest, words: str) -> None:
    check_sources(_request())
    with pytest.raises(EngineFailure, match=words) as caught:
        check_sources(request_)
    assert caught.value.reason is FailureReason.INVALID_SPEC


def test_each_format_states_what_users_read() -> None:
    assert all(entry.words and entry.advice.endswith(".") for entry in FORMATS.values())
    assert {name for name, entry in FORMATS.items() if entry.template_note} == set(CONVERTIBLE)
    assert set(FORMATS) <= set(words(ModelFormat))
