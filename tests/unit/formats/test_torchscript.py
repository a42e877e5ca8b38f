"""TorchScript archives compute the same as ONNX graphs, and files that are none are refused with what they are."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats.preparation import prepare
from engines.formats.reading import with_inputs, with_stated_inputs
from engines.spec.information import apply
from tests.unit.formats.reading import assert_equal, read, request_of

INPUTS = [{"name": "x", "shape": [1, 4]}, {"name": "scale", "shape": [1, 1]}]


def _network() -> Any:
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(4, 3)

        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            y = self.linear(x) * scale
            if bool((x.sum() > 0).item()):
                y = y + 1
            return y, x.mean(1)

    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def _save(module: Any, path: Path) -> None:
    import torch

    jit: Any = torch.jit
    jit.save(module, str(path))


@pytest.mark.parametrize("kind", ["traced", "scripted"])
@pytest.mark.filterwarnings("ignore")
def test_a_script_is_read_with_a_dynamic_batch_and_its_choices(tmp_path: Path, source: Path, kind: str) -> None:
    import numpy as np
    import torch

    jit: Any = torch.jit
    network = _network()
    example = (torch.ones(2, 4), torch.ones(2, 1))
    _save(jit.trace(network, example) if kind == "traced" else jit.script(network), source / "model.pt")
    prepared = read("TORCHSCRIPT", tmp_path, inputs=INPUTS, max_batch=3, output_names=["y", "mean"])
    negative = {"x": -np.ones((2, 4), "float32"), "scale": np.ones((2, 1), "float32")}
    assert_equal(prepared, [negative])
    assert [spec.name for spec in prepared.signature.outputs] == ["y", "mean"]
    assert prepared.source.module is not None
    positive = prepared.source.run({**negative, "x": -negative["x"]})
    assert np.all(positive["mean"] == 1)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("declared", [1, 2])
@pytest.mark.filterwarnings("ignore")
def test_an_optional_argument_is_none_unless_it_is_declared(tmp_path: Path, source: Path, declared: int) -> None:
    import torch

    class Net(torch.nn.Module):
        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None, by: float = 2.0) -> torch.Tensor:
            return x * by if mask is None else x * mask

    jit: Any = torch.jit
    _save(jit.script(Net().eval()), source / "m.pt")
    inputs = [{"name": name, "shape": [1, 4]} for name in ("x", "mask")]
    prepared = read("TORCHSCRIPT", tmp_path, inputs=inputs[:declared], max_batch=3)
    assert len(prepared.source.signature.inputs) == declared
    assert_equal(prepared)


def test_the_inputs_must_be_those_of_forward(tmp_path: Path, source: Path) -> None:
    import torch

    jit: Any = torch.jit
    _save(jit.script(_network()), source / "model.pt")
    with pytest.raises(EngineFailure, match=r"does not keep the shapes .* declare x, scale, with shape"):
        read("TORCHSCRIPT", tmp_path)
    with pytest.raises(EngineFailure, match=r"declares 1 inputs; the TorchScript's forward takes 2: x, scale\."):
        read("TORCHSCRIPT", tmp_path, inputs=INPUTS[:1])
    with pytest.raises(EngineFailure) as raised:
        read("TORCHSCRIPT", tmp_path, inputs=[{"name": "x", "shape": [1, 5]}, INPUTS[1]])
    assert raised.value.reason is FailureReason.SHAPE_MISMATCH


def _state_dict(path: Path) -> None:
    import torch

    torch.save(_network().state_dict(), path)


def _cut(path: Path) -> None:
    import torch

    jit: Any = torch.jit
    _save(jit.script(torch.nn.Linear(2, 2)), path)
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda path: path.write_bytes(pickle.dumps([1.0])), "looks like a Python pickle"),
        (lambda path: path.touch(), "looks like an empty file"),
        (_state_dict, "looks like a file of torch.save"),
        (_cut, "looks like a truncated zip archive"),
    ],
    ids=["pickle", "empty", "state dict", "truncated"],
)
@pytest.mark.filterwarnings("ignore")
def test_a_file_that_is_no_torchscript_is_refused(tmp_path: Path, source: Path, write: Any, words: str) -> None:
    write(source / "model.pt")
    with pytest.raises(EngineFailure, match=f"TorchScript archive, but 'model.pt' {words}") as raised:
        read("TORCHSCRIPT", tmp_path, inputs=INPUTS)
    assert raised.value.reason is FailureReason.INVALID_MODEL


def test_an_archive_whose_code_is_damaged_is_refused(tmp_path: Path, source: Path) -> None:
    with zipfile.ZipFile(source / "model.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "version"):
            archive.writestr(f"model/{name}", b"3")
    with pytest.raises(EngineFailure, match=r"cannot load the TorchScript archive 'model\.pt'") as raised:
        read("TORCHSCRIPT", tmp_path, inputs=INPUTS)
    assert raised.value.reason is FailureReason.INVALID_MODEL
    assert raised.value.suggested_fix


@pytest.mark.filterwarnings("ignore")
def test_an_archive_of_a_newer_torch_says_so(tmp_path: Path, source: Path) -> None:
    import torch

    jit: Any = torch.jit
    _save(jit.script(_network()), source / "written")
    with zipfile.ZipFile(source / "written") as written, zipfile.ZipFile(source / "model.pt", "w") as newer:
        for name in written.namelist():
            newer.writestr(name, b"999" if name.endswith("/version") else written.read(name))
    (source / "written").unlink()
    with pytest.raises(EngineFailure, match="with version 999, but the maximum supported") as raised:
        read("TORCHSCRIPT", tmp_path, inputs=INPUTS)
    assert raised.value.suggested_fix.startswith(f"Save it with torch {torch.__version__.partition('+')[0]}")


@pytest.mark.filterwarnings("ignore")
def test_an_archive_that_returns_a_dictionary_is_told_what_to_return(tmp_path: Path, source: Path) -> None:
    import torch

    class Named(torch.nn.Module):
        def forward(self, x: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"y": x * scale}

    jit: Any = torch.jit
    _save(jit.script(Named().eval()), source / "model.pt")
    with pytest.raises(EngineFailure, match=r"'prim\.DictConstruct'") as raised:
        read("TORCHSCRIPT", tmp_path, inputs=INPUTS)
    assert raised.value.suggested_fix.startswith("Return a tuple of tensors")


@pytest.mark.parametrize(
    "text",
    [
        "input_0:float(1*4)\ninput_1:float(1*1)",
        "input_0[x]:float(1*4)\ninput_1[scale]:float(1*1)",
        "scale:float(1*1)\nx:float(1*4)",
    ],
    ids=["by position", "named", "by the names of forward"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensor_information_declares_what_an_archive_does_not_keep(tmp_path: Path, source: Path, text: str) -> None:
    import torch

    jit: Any = torch.jit
    _save(jit.script(_network()), source / "model.pt")
    request = request_of("TORCHSCRIPT", tmp_path)
    (component,) = request.template.components
    with pytest.raises(EngineFailure, match="declare x, scale") as caught:
        with_inputs(request, component, tmp_path)
    assert "tensor information" in caught.value.suggested_fix
    stated = with_stated_inputs(request, component, tmp_path)
    assert_equal(prepare(request, apply(text, stated), tmp_path, lambda *_: None))
    wrong = apply("picture:float(1*1)\nx:float(1*4)", stated)
    with pytest.raises(EngineFailure, match=r"declares 2 inputs \(picture, x\); the .* takes 2: x, scale"):
        prepare(request, wrong, tmp_path, lambda *_: None)


def test_whoever_declares_inputs_still_hears_of_files_that_are_no_model(tmp_path: Path, source: Path) -> None:
    (source / "model.pt").write_bytes(pickle.dumps({"w": 1}))
    request = request_of("TORCHSCRIPT", tmp_path)
    with pytest.raises(EngineFailure) as caught:
        with_stated_inputs(request, request.template.components[0], tmp_path)
    assert caught.value.reason is FailureReason.INVALID_MODEL
