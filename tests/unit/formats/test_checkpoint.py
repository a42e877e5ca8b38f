import argparse
import collections
import datetime
import os
import pickle
import sys
import types
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.formats.pytorch.checkpoint import load_state_dict


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


@pytest.fixture
def easydict(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A class of a module that is not installed here: dictionaries with attributes."""
    module: Any = types.ModuleType("easydict")
    module.EasyDict = type("EasyDict", (dict,), {"__module__": "easydict"})
    monkeypatch.setitem(sys.modules, "easydict", module)
    return module.EasyDict


PLAIN = {
    "namespace": argparse.Namespace(rate=0.1, layers=[1, 2], inner=argparse.Namespace(name="a")),
    "numpy scalar": np.float64(0.91),
    "numpy array": np.arange(3),
    "numpy dtype": np.dtype("float32"),
    "path": PurePosixPath("/a/b"),
    "dates": [datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC), datetime.timedelta(hours=1)],
    "defaultdict": collections.defaultdict(list, {"loss": [1.0]}),
    "deque": collections.deque([1, 2], maxlen=3),
    "ordered": collections.OrderedDict(a=1),
    "counter": collections.Counter("aab"),
    "frozenset": frozenset({1}),
    "type": float,
}


@pytest.mark.parametrize("legacy", [False, True])
def test_plain_data_beside_the_weights_are_read(
    tmp_path: Path, legacy: bool, easydict: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = easydict(a=1)
    vars(settings)["b"] = 2
    value = {"state_dict": _weights(), **PLAIN, "settings": settings}
    path = _save(tmp_path / "a.pth", value, legacy=legacy)
    monkeypatch.delitem(sys.modules, "easydict")
    assert load_state_dict(path, "state_dict").keys() == _weights().keys()


def test_state_dict_in_a_dictionary_with_attributes(
    tmp_path: Path, easydict: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _save(tmp_path / "a.pth", easydict(state_dict=easydict(_weights()), epoch=3))
    monkeypatch.delitem(sys.modules, "easydict")
    assert load_state_dict(path).keys() == _weights().keys()


def test_the_only_state_dict_is_taken_and_the_only_one_that_fits(tmp_path: Path) -> None:
    weights = _weights()
    assert load_state_dict(_save(tmp_path / "a.pth", {"epoch": 3, "net": weights})).keys() == weights.keys()
    both = {"critic": {"other": weights["w"]}, "actor": {f"module.{key}": value for key, value in weights.items()}}
    found = load_state_dict(_save(tmp_path / "b.pth", both), expected=[*weights, "norm.num_batches_tracked"])
    assert found.keys() == both["actor"].keys()


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (
            "model",
            r"has no key 'model'; its keys: 'epoch', 'state_dict', 'my ema'; there are state dicts under 'state_dict',"
            " 'my ema'",
        ),
        ("epoch", "has something else under 'epoch'"),
        ("", "holds several state dicts, any of which may be meant: 'state_dict', 'my ema'"),
    ],
)
def test_wrong_key_lists_those_that_there_are_and_what_to_type(tmp_path: Path, key: str, words: str) -> None:
    path = _save(tmp_path / "a.pth", {"epoch": 3, "state_dict": _weights(), "my ema": _weights()})
    with pytest.raises(EngineFailure, match=words) as caught:
        load_state_dict(path, key, component="net")
    assert caught.value.reason is FailureReason.INVALID_SPEC
    assert "--set components.net.state_dict_key=state_dict" in caught.value.suggested_fix
    assert "--set 'components.net.state_dict_key=my ema'" in caught.value.suggested_fix


def test_key_of_a_file_that_is_the_state_dict(tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match="the whole file is the state dict") as caught:
        load_state_dict(_save(tmp_path / "a.pth", _weights()), "state_dict")
    assert caught.value.suggested_fix.endswith("--set components.model.state_dict_key=")


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


def test_newer_pickle_protocol_is_told(tmp_path: Path) -> None:
    import torch

    torch.save(_weights(), tmp_path / "a.pth", pickle_protocol=4)
    with pytest.raises(EngineFailure, match="in a newer protocol than torch's safe loader reads") as caught:
        load_state_dict(tmp_path / "a.pth")
    assert "without the argument pickle_protocol" in caught.value.suggested_fix


def test_whole_module_is_refused_with_the_way_out(tmp_path: Path) -> None:
    import torch

    with pytest.raises(EngineFailure, match=r"torch\.nn\.modules\.linear\.Linear") as caught:
        load_state_dict(_save(tmp_path / "a.pth", torch.nn.Linear(2, 2)))
    assert caught.value.reason is FailureReason.UNSAFE_MODEL
    assert "found.state_dict() if it holds the whole model" in caught.value.suggested_fix


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
