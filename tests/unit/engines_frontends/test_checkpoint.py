import logging
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.frontends.checkpoint import load_state_dict


def _save(path: Path, value: Any, *, legacy: bool = False) -> Path:
    import torch

    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


def _weights() -> dict[str, Any]:
    import torch

    return {
        "w": torch.arange(6.0).reshape(2, 3).t(),
        "half": torch.ones(2, dtype=torch.float16),
        "brain": torch.ones(2, dtype=torch.bfloat16),
        "slice": torch.arange(10)[3:5],
        "count": torch.tensor(7),
    }


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("key", ["", "state_dict"])
def test_state_dicts_of_both_formats_and_under_a_key(tmp_path: Path, legacy: bool, key: str) -> None:
    weights = _weights()
    path = _save(tmp_path / "a.pth", {key: weights, "epoch": 3} if key else weights, legacy=legacy)
    loaded = load_state_dict(path, key)
    assert loaded.keys() == weights.keys()
    assert all(loaded[name].equal(tensor) and loaded[name].dtype == tensor.dtype for name, tensor in weights.items())


def test_prefix_of_data_parallel_is_taken_off_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _save(tmp_path / "a.pth", {f"module.{name}": tensor for name, tensor in _weights().items()})
    with caplog.at_level(logging.INFO):
        assert load_state_dict(path).keys() == _weights().keys()
    assert "DataParallel" in caplog.text


@pytest.mark.parametrize(
    ("key", "words", "fix"),
    [
        (
            "model",
            r"has no key 'model'; its keys: 'epoch', 'state_dict', 'ema'; state dicts lie under 'state_dict', 'ema'",
            "to 'state_dict'",
        ),
        ("epoch", "has no state dict under 'epoch', but something else", "to 'state_dict'"),
        ("", "is not a state dict as a whole", "to 'state_dict'"),
    ],
)
def test_wrong_key_lists_those_that_there_are(tmp_path: Path, key: str, words: str, fix: str) -> None:
    path = _save(tmp_path / "a.pth", {"epoch": 3, "state_dict": _weights(), "ema": _weights()})
    with pytest.raises(EngineFailure, match=words) as caught:
        load_state_dict(path, key)
    assert caught.value.reason is FailureReason.INVALID_SPEC
    assert fix in caught.value.suggested_fix


def test_key_of_a_file_that_is_the_state_dict(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="the whole file is the state dict") as caught:
        load_state_dict(_save(tmp_path / "a.pth", _weights()), "state_dict")
    assert "empty" in caught.value.suggested_fix


def test_checkpoint_without_weights(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="its keys: 'epoch'") as caught:
        load_state_dict(_save(tmp_path / "a.pth", {"epoch": 3}))
    assert caught.value.reason is FailureReason.INVALID_MODEL


class _Harm:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch harmed",)


@pytest.mark.parametrize("how", ["pickle", "pickle of protocol 0", "zip", "legacy"])
def test_code_in_a_checkpoint_is_refused_by_name(tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pth"
    value = {**_weights(), "x": _Harm()}
    if "pickle" in how:
        path.write_bytes(pickle.dumps(_Harm(), protocol=0 if "0" in how else 4))
    else:
        _save(path, value, legacy=how == "legacy")
    with pytest.raises(EngineFailure, match=r"refers to 'posix\.system'") as caught:
        load_state_dict(path)
    assert caught.value.reason is FailureReason.UNSAFE_MODEL
    assert not (tmp_path / "harmed").exists()


def test_whole_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    import torch

    with pytest.raises(EngineFailure, match=r"torch\.nn\.modules\.linear\.Linear") as caught:
        load_state_dict(_save(tmp_path / "a.pth", torch.nn.Linear(2, 2)))
    assert caught.value.reason is FailureReason.UNSAFE_MODEL
    assert "model.state_dict()" in caught.value.suggested_fix


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("part", [0.0, 0.01, 0.5, 0.99])
def test_truncated_files(tmp_path: Path, legacy: bool, part: float) -> None:
    path = _save(tmp_path / "a.pth", _weights(), legacy=legacy)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(EngineFailure, match=r"truncated|an empty file") as caught:
        load_state_dict(path)
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_torch_and_the_scan_agree_on_what_an_optimizer_saves(tmp_path: Path) -> None:
    import torch

    network = torch.nn.Linear(2, 2)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 2])
    value = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
    assert load_state_dict(_save(tmp_path / "a.pth", value), "model").keys() == {"weight", "bias"}
