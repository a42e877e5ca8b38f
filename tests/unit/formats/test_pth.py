import argparse
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engines.failures import EngineFailure, FailureReason
from engines.formats.described_tensors import TensorInfo
from engines.formats.pytorch.description import describe_pth, read_checkpoint


def _weights() -> dict[str, Any]:
    import torch

    network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    return {**network.state_dict(), "turned": torch.ones(4, 5).t(), "brain": torch.ones(2, dtype=torch.bfloat16)}


def _save(path: Path, value: Any, *, legacy: bool = False) -> Path:
    import torch

    torch.save(value, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [False, True])
def test_description_of_a_state_dict(tmp_path: Path, legacy: bool) -> None:
    (graph,) = describe_pth(_save(tmp_path / "a.pth", _weights(), legacy=legacy), "weights/a.pth")
    assert (graph["path"], graph["component"], graph["checkpoint_keys"]) == ("weights/a.pth", "a.pth", [])
    assert graph["parameter_count"] == sum(tensor.numel() for tensor in _weights().values())
    assert graph["parameter_bytes"] == sum(tensor.numel() * tensor.element_size() for tensor in _weights().values())
    shapes = {entry["name"]: (entry["dtype"], entry["shape"]["max"]) for entry in graph["parameters"]}
    assert shapes["0.weight"] == ("float32", [8, 3, 3, 3])
    assert shapes["1.num_batches_tracked"] == ("int64", [])
    assert shapes["turned"] == ("float32", [5, 4])
    assert shapes["brain"] == ("bfloat16", [2])


def test_description_is_what_the_api_takes(tmp_path: Path) -> None:
    from lathe.registry.v1.model_service_pb2 import GraphDescription

    from services.platform.words import from_values

    for graph in describe_pth(_save(tmp_path / "a.pth", {"net": _weights(), "epoch": 1}), "a.pth"):
        message = from_values(graph, GraphDescription())
        assert list(message.checkpoint_keys) == ["net", "epoch"]
        assert message.metadata["state_dict_key"] == "net"


def test_every_state_dict_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    value = {"epoch": 3, "model": _weights(), "ema": _weights(), "history": [0.1], "optimizer": {"state": {0: {}}}}
    checkpoint = read_checkpoint(_save(tmp_path / "a.pth", value))
    assert checkpoint.keys == ("epoch", "model", "ema", "history", "optimizer")
    assert list(checkpoint.state_dicts) == ["model", "ema"]


def test_tensors_of_odd_kinds(tmp_path: Path) -> None:
    import torch

    value = {
        "empty": torch.zeros(0, 3),
        "complex": torch.zeros(2, dtype=torch.complex64),
        "eight": torch.zeros(2, dtype=torch.float8_e4m3fn),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "u16": torch.zeros(3, dtype=torch.uint16),
    }
    (tensors,) = read_checkpoint(_save(tmp_path / "a.pth", value)).state_dicts.values()
    assert tensors["complex"] == TensorInfo("complex64", (2,))
    (graph,) = describe_pth(tmp_path / "a.pth", "a.pth")
    assert [entry["name"] for entry in graph["parameters"]] == ["empty", "parameter", "u16"]
    assert graph["parameter_count"] == 9


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file"),
        (b"<html>", "an HTML page"),
        (pickle.dumps({"a": 1}), "a plain Python pickle that torch.save did not write"),
        (b"\x80\x02K\x01r\xff\xff\xff\xff.", "truncated"),
        (b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b".", "truncated"),
        (b"\x80\x02)" + b"\x85" * 300_000 + b".", "a plain Python pickle"),
        (b"\x80\x02]q\x00" + b"(h\x00h\x00e" * 1000 + b".", "a plain Python pickle"),
        (b"PK\x03\x04garbage", "truncated zip archive"),
    ],
    ids=["empty", "html", "plain", "memo bomb", "length bomb", "nesting bomb", "doubling bomb", "zip head"],
)
def test_other_files_are_refused_with_what_they_look_like(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(EngineFailure, match=words) as caught:
        read_checkpoint(tmp_path / "a.pth")
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_other_formats_of_torch_are_named(tmp_path: Path) -> None:
    import torch

    jit: Any = torch.jit
    jit.save(jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), str(tmp_path / "a.pth"))
    with pytest.raises(EngineFailure, match="looks like a TorchScript archive"):
        read_checkpoint(tmp_path / "a.pth")


def test_missing_and_short_records(tmp_path: Path) -> None:
    whole = _save(tmp_path / "a.pth", _weights())
    for how, words in (("drop", "is missing"), ("cut", "has 3 bytes")):
        with zipfile.ZipFile(whole) as source, zipfile.ZipFile(tmp_path / "b.pth", "w") as target:
            for name in source.namelist():
                is_record = name.endswith("data/0")
                if not (is_record and how == "drop"):
                    target.writestr(name, source.read(name)[: 3 if is_record else None])
        with pytest.raises(EngineFailure, match=f"data/0 of 864 bytes {words}"):
            read_checkpoint(tmp_path / "b.pth")


def test_damaged_directory_of_the_archive(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.pth", _weights())
    path.write_bytes(path.read_bytes().replace(b"data/0", b"data\xff0"))
    with pytest.raises(EngineFailure, match="a truncated zip archive"):
        read_checkpoint(path)


def _tensor_pickle(shape: str, stride: str, *, call: str = "ctorch._utils\n_rebuild_tensor_v2\n") -> bytes:
    """A state dict of one tensor over a storage of six floats, written by hand."""
    storage = "(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI6\ntQ"
    return f"(dVw\n{call}({storage}I0\n{shape}{stride}I00\ncollections\nOrderedDict\n(tRtRs.".encode()


@pytest.mark.parametrize(
    ("shape", "stride"),
    [
        ("(I7\nt", "(I1\nt"),
        ("(I2\nI3\nt", "(I1\nt"),
        ("(I-1\nt", "(I1\nt"),
        ("(I2\nt", "(I1000000000\nt"),
        ("I3\n", "I3\n"),
    ],
)
def test_tensors_that_lie_about_their_size(tmp_path: Path, shape: str, stride: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", _tensor_pickle(shape, stride).replace(b"I00\n", b"I00\nc"))
        archive.writestr("a/data/0", bytes(24))
    with pytest.raises(EngineFailure, match="damaged") as caught:
        read_checkpoint(tmp_path / "a.pth")
    assert caught.value.reason is FailureReason.INVALID_MODEL


def test_honest_tensor_written_by_hand(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", _tensor_pickle("(I2\nI3\nt", "(I3\nI1\nt").replace(b"I00\n", b"I00\nc"))
        archive.writestr("a/data/0", bytes(24))
    assert read_checkpoint(tmp_path / "a.pth").state_dicts == {"": {"w": TensorInfo("float32", (2, 3))}}


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("cos\nsystem\n", "os.system"),
        ("cbuiltins\neval\n", "builtins.eval"),
        ("cbuiltins\nsetattr\n", "builtins.setattr"),
        ("ctorch.hub\nload\n", "torch.hub.load"),
        ("ctorch\nload\n", "torch.load"),
        ("ctorch._utils\n_rebuild_tensor_v2.__globals__\n", "torch._utils._rebuild_tensor_v2.__globals__"),
        ("ccollections\nOrderedDict.__class__\n", "collections.OrderedDict.__class__"),
        ("cnumpy.testing._private.utils\nrunstring\n", "numpy.testing._private.utils.runstring"),
        ("c__builtin__\neval\n", "builtins.eval"),
        ("cargparse\nArgumentParser\n", "argparse.ArgumentParser"),
    ],
)
def test_everything_that_state_dicts_do_not_need_is_refused(tmp_path: Path, reference: str, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", f"{reference}(Vtouch harmed\ntR.".encode())
    with pytest.raises(EngineFailure, match="which no state dict needs") as caught:
        read_checkpoint(tmp_path / "a.pth")
    assert caught.value.reason is FailureReason.UNSAFE_MODEL
    assert caught.value.evidence == name


def test_name_made_on_the_stack_is_refused(tmp_path: Path) -> None:
    content = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(EngineFailure, match=r"posix\.system"):
        read_checkpoint(tmp_path / "a.pth")


def test_plain_data_are_described_around(tmp_path: Path) -> None:
    value = {"model": _weights(), "args": argparse.Namespace(rate=0.1), "best": np.float32(0.5), "at": Path("/a")}
    (graph,) = describe_pth(_save(tmp_path / "a.pth", value), "a.pth")
    assert graph["checkpoint_keys"] == ["model", "args", "best", "at"]


def test_stand_ins_cannot_be_changed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"ctorch._utils\n_rebuild_tensor_v2\n(lI1\nab.")
    with pytest.raises(EngineFailure, match="it changes a function"):
        read_checkpoint(tmp_path / "a.pth")
    assert describe_pth(_save(tmp_path / "b.pth", _weights()), "b.pth")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.integers(0, 2**32), st.integers(0, 255), st.booleans())
def test_a_changed_byte_is_read_or_refused(tmp_path: Path, position: int, value: int, legacy: bool) -> None:
    original = tmp_path / f"{legacy}.pth"
    if not original.exists():
        _save(original, _weights(), legacy=legacy)
    path = Path(shutil.copy(original, tmp_path / "changed.pth"))
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(content)
    try:
        read_checkpoint(path)
    except EngineFailure as failure:
        wrong = failure.reason not in {FailureReason.INVALID_MODEL, FailureReason.UNSAFE_MODEL}
        if wrong:
            raise


def test_weights_that_torch_quantized_are_refused(tmp_path: Path) -> None:
    import torch

    quantized = torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)
    with pytest.raises(EngineFailure, match="stored quantized by torch") as caught:
        read_checkpoint(_save(tmp_path / "q.pth", {"w": quantized}))
    assert caught.value.reason is FailureReason.INVALID_MODEL
