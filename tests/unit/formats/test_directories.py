"""Descriptions of torch's archives and of Hugging Face directories, made without torch and without running them."""

import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats.exported_program.description import describe_exported_program
from engines.formats.huggingface.description import describe_huggingface
from engines.formats.huggingface.safetensors import read_safetensors
from engines.formats.torchscript.description import describe_torchscript


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    folder = tmp_path_factory.mktemp("archives")
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3), torch.nn.ReLU()).eval()
    sample = torch.ones(2, 4)
    jit: Any = torch.jit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jit.save(jit.trace(network, sample), folder / "m.pt")
    batch = torch.export.Dim("batch", min=1, max=8)
    torch.export.save(torch.export.export(network, (sample,), dynamic_shapes=({0: batch},)), folder / "m.pt2")
    return folder


def _safetensors(path: Path, header: dict[str, Any], size: int) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    return path


def _directory(folder: Path, config: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", **config}))
    return folder


WEIGHT = {"w": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}}


def test_torchscript(archives: Path) -> None:
    graph = describe_torchscript(archives / "m.pt", "m.pt")
    assert graph["parameter_count"] == 4 * 3 + 3 + 4 * 3 + 1
    assert [tensor["name"] for tensor in graph["parameters"]][:3] == ["0.weight", "0.bias", "1.weight"]
    assert {entry["operator"] for entry in graph["operators"]} == {"linear", "batch_norm", "relu"}


def test_exported_program(archives: Path) -> None:
    graph = describe_exported_program(archives / "m.pt2", "m.pt2")
    assert graph["parameter_count"] == 28
    (given,) = graph["signature"]["inputs"]
    assert (given["dtype"], given["shape"]["min"], given["shape"]["max"]) == ("float32", [1, 4], [8, 4])
    assert "aten.linear" in {entry["operator"] for entry in graph["operators"]}


def test_archives_of_another_kind(archives: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match=r"not a usable torch.export program: it looks like a TorchScript archive"):
        describe_exported_program(archives / "m.pt", "m.pt")
    (tmp_path / "m.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(EngineFailure, match=r"not a usable TorchScript archive: it looks like a Python pickle"):
        describe_torchscript(tmp_path / "m.pt", "m.pt")
    (tmp_path / "m.pt").write_bytes((archives / "m.pt").read_bytes()[:-100])
    with pytest.raises(EngineFailure, match="a truncated zip archive"):
        describe_torchscript(tmp_path / "m.pt", "m.pt")


def _rewritten(archive: Path, target: Path, entry: str, data: bytes) -> Path:
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(target, "w") as copy:
        for name in source.namelist():
            copy.writestr(name, data if name.endswith(entry) else source.read(name))
    return target


def test_archives_that_were_tampered_with(archives: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match=r"the record data/0 are missing or cut"):
        describe_torchscript(_rewritten(archives / "m.pt", tmp_path / "a.pt", "/data/0", b""), "a.pt")
    code = pickle.dumps(pytest.raises)
    with pytest.raises(EngineFailure) as caught:
        describe_torchscript(_rewritten(archives / "m.pt", tmp_path / "b.pt", "/data.pkl", code), "b.pt")
    assert caught.value.reason is FailureReason.UNSAFE_MODEL
    with pytest.raises(EngineFailure, match="it is damaged"):
        describe_exported_program(_rewritten(archives / "m.pt2", tmp_path / "c.pt2", "model.json", b"{}"), "c.pt2")


def _nested_lists(depth: int) -> bytes:
    """Return the pickle of a module whose list nests itself: two ways to each level, and a tensor at none."""
    shared: list[Any] = []
    for _ in range(depth):
        shared = [shared, shared]
    return pickle.dumps(shared)


def test_shared_lists_are_walked_once(archives: Path, tmp_path: Path) -> None:
    nested = _rewritten(archives / "m.pt", tmp_path / "n.pt", "/data.pkl", _nested_lists(90))
    assert describe_torchscript(nested, "n.pt")["parameter_count"] == 0


def _changed(archive: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Write a copy of an exported program whose list of weights was changed."""
    with zipfile.ZipFile(archive) as source:
        (name,) = (name for name in source.namelist() if name.endswith("_weights_config.json"))
        values = json.loads(source.read(name))
    change(values["config"]["0.bias"]["tensor_meta"])
    return _rewritten(archive, target, "_weights_config.json", json.dumps(values).encode())


@pytest.mark.parametrize("extent", [-1, 2**70, float("inf"), "x"])
def test_weights_of_impossible_extents_are_refused(archives: Path, tmp_path: Path, extent: object) -> None:
    program = _changed(
        archives / "m.pt2", tmp_path / "m.pt2", lambda meta: meta.update(sizes=[{"as_int": 1}, {"as_int": extent}])
    )
    with pytest.raises(EngineFailure, match=r"cannot have the shape that the file says|it is damaged") as caught:
        describe_exported_program(program, "m.pt2")
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_values_of_another_form_are_damage(archives: Path, tmp_path: Path) -> None:
    program = _changed(archives / "m.pt2", tmp_path / "m.pt2", lambda meta: meta.update(sizes="x"))
    with pytest.raises(EngineFailure, match="it is damaged"):
        describe_exported_program(program, "m.pt2")


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_compressed_entries_that_are_damaged(archives: Path, tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(archives / "m.pt") as source, zipfile.ZipFile(tmp_path / "m.pt", "w", method) as copy:
        for name in source.namelist():
            copy.writestr(name, source.read(name))
        code = next(info for info in copy.infolist() if info.filename.endswith(".py"))
    data = bytearray((tmp_path / "m.pt").read_bytes())
    start = code.header_offset + 30 + len(code.filename) + 16
    data[start : start + 24] = b"\xff" * 24
    (tmp_path / "m.pt").write_bytes(data)
    with pytest.raises(EngineFailure, match="it is damaged"):
        describe_torchscript(tmp_path / "m.pt", "m.pt")


def test_huggingface_directory(tmp_path: Path) -> None:
    folder = _directory(tmp_path, {"architectures": ["BertModel"]})
    _safetensors(folder / "model.safetensors", WEIGHT, 12)
    (graph,) = describe_huggingface(folder)
    assert (graph["component"], graph["parameter_count"], graph["parameter_bytes"]) == ("model", 6, 12)
    assert graph["metadata"]["architectures"] == "BertModel"


def test_shards(tmp_path: Path) -> None:
    folder = _directory(tmp_path, {})
    index = {"weight_map": {"a": "s1.safetensors", "b": "s2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    _safetensors(folder / "s1.safetensors", WEIGHT, 12)
    with pytest.raises(EngineFailure, match=r"are in 2 files; of these, s2\.safetensors is missing"):
        describe_huggingface(folder)
    _safetensors(folder / "s2.safetensors", {"v": WEIGHT["w"]}, 12)
    assert describe_huggingface(folder)[0]["parameter_count"] == 12


def test_pipeline(tmp_path: Path) -> None:
    parts = {"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"]}
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline", **parts}))
    with pytest.raises(EngineFailure, match="none of its models"):
        describe_huggingface(tmp_path)
    unet = _directory(tmp_path / "unet", {"_class_name": "UNet2DModel"})
    _safetensors(unet / "diffusion_pytorch_model.safetensors", WEIGHT, 12)
    (graph,) = describe_huggingface(tmp_path)
    assert (graph["component"], graph["path"]) == ("unet", "unet/config.json")


@pytest.mark.parametrize("name", ["..", "../other", "."])
def test_parts_of_a_pipeline_lie_in_it(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "pipeline"
    folder.mkdir()
    for beside in (tmp_path, tmp_path / "other"):
        _safetensors(_directory(beside, {}) / "model.safetensors", WEIGHT, 12)
    (folder / "model_index.json").write_text(
        json.dumps({"_class_name": "Pipeline", name: ["diffusers", "UNet2DModel"]})
    )
    with pytest.raises(EngineFailure, match="none of its models"):
        describe_huggingface(folder)


def test_architectures_that_are_no_list_are_not_shown(tmp_path: Path) -> None:
    folder = _directory(tmp_path, {"architectures": True})
    _safetensors(folder / "model.safetensors", WEIGHT, 12)
    assert "architectures" not in describe_huggingface(folder)[0]["metadata"]


def test_remote_code_is_refused(tmp_path: Path) -> None:
    folder = _directory(tmp_path, {"auto_map": {"AutoModel": "modeling.Net"}})
    with pytest.raises(EngineFailure, match="asks for code") as caught:
        describe_huggingface(folder)
    assert caught.value.reason is FailureReason.UNSAFE_MODEL


def test_directories_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(EngineFailure, match="looks like a text file"):
        describe_huggingface(tmp_path)
    _directory(tmp_path, {})
    with pytest.raises(EngineFailure, match=r"no weights of PyTorch; it has config\.json, notes\.txt\."):
        describe_huggingface(tmp_path)


@pytest.mark.parametrize(
    ("header", "size", "words"),
    [
        (WEIGHT, 5, "it is truncated"),
        ({"w": {**WEIGHT["w"], "dtype": "Q7"}}, 12, "unknown element type 'Q7'"),
        ({"w": {**WEIGHT["w"], "shape": [2, 2]}}, 12, "of 8 bytes is in 12"),
        ({"w": {}}, 0, "header is damaged"),
        ({"w": {**WEIGHT["w"], "data_offsets": [0, float("inf")]}}, 12, "header is damaged"),
    ],
)
def test_damaged_safetensors(tmp_path: Path, header: dict[str, Any], size: int, words: str) -> None:
    with pytest.raises(EngineFailure, match=words):
        read_safetensors(_safetensors(tmp_path / "m.safetensors", header, size))


def test_empty_weights(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(b"")
    with pytest.raises(EngineFailure, match="it is empty"):
        read_safetensors(tmp_path / "m.safetensors")
