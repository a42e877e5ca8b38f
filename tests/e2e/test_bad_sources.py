"""Sources and searches that must be refused or fail: each says what is wrong and what to do, and nothing is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from lathe.optimizer.v1 import optimization_service_pb2 as optimizer
from lathe.registry.v1 import model_service_pb2 as model
from lathe.type.v1 import failure_pb2, task_pb2

from services.platform.words import number, word
from tests.e2e.calls import Refusal, refusal_of
from tests.e2e.desk import Desk
from tests.e2e.optimizing import create, good_graph, huge_graph, nan_graph, save_cnn, write_bad_sources
from tests.eventually import wait_for

PUSHED = {
    "pickle.pt": ("TORCHSCRIPT", "INVALID_MODEL", ("'pickle.pt'", "looks like a Python pickle", "Upload")),
    "pickle.pth": ("PTH", "INVALID_MODEL", ("'pickle.pth'", "plain Python pickle", "torch.save(")),
    "operator.onnx": ("ONNX", "INVALID_MODEL", ("'Frobnicate of y'", "not an ONNX operator", "name the domain")),
    "cycle.onnx": ("ONNX", "INVALID_MODEL", ("cycle: 'Relu of a' needs 'Relu of b'", "Export the model again")),
    "nobody.onnx": ("ONNX", "INVALID_MODEL", ("'Add of y'", "'nobody'", "Export the model again")),
    "weightless.onnx": ("ONNX", "INVALID_MODEL", ("weights 'w' of shape [4, 4] have 0 bytes", "upload the whole file")),
    "beside": ("ONNX", "INVALID_MODEL", ("weights.bin", "0 bytes")),
    "empty.onnx": ("ONNX", "INVALID_MODEL", ("'empty.onnx'", "empty", "Upload the whole file")),
    "outside.onnx": ("ONNX", "UNSAFE_MODEL", ("'../../../../etc/passwd'", "outside of its own directory", "beside it")),
    "outputless.pb": ("FROZEN_GRAPH", "INVALID_MODEL", ("has no output", "names of its outputs")),
    "python": ("SAVED_MODEL", "UNSAFE_MODEL", ("node 'y'", "PyFunc", "nothing was run", "operators of TensorFlow")),
    "remote": (
        "HUGGINGFACE",
        "UNSAFE_MODEL",
        ("'config.json'", "auto_map", "modeling.Mine", "none is run"),
    ),
}
"""What is pushed, the format that it is said to be, and how it is refused."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bad-sources")
    write_bad_sources(made)
    return made


def refused(make: Callable[[], Any]) -> Refusal:
    with pytest.raises(grpc.RpcError) as caught:
        make()
    return refusal_of(caught.value)


@pytest.mark.parametrize("name", PUSHED)
def test_a_source_that_cannot_be_used_becomes_no_version(desk: Desk, folder: Path, name: str) -> None:
    said, reason, words = PUSHED[name]
    found = refused(lambda: desk.push("bad-sources", folder / name, "", format=number(model.ModelFormat, said)))
    assert (found.code, found.reason, found.fields) == ("INVALID_ARGUMENT", reason, ("model_version.files",))
    for each in words:
        assert each in found.message
    assert desk.versions("bad-sources") == []
    assert not Path("/tmp/it-ran").exists()


@pytest.mark.parametrize("name", ["outside.onnx", "remote"])
def test_the_command_line_says_so_too(desk: Desk, folder: Path, name: str) -> None:
    found = desk.suite.lathe("models", "push", "bad-sources", str(folder / name), "--create", check=False)
    assert found.returncode == 2, found.stderr
    said = " ".join(found.stderr.split())
    assert "[UNSAFE_MODEL]" in said
    assert all(words in said for words in PUSHED[name][2])
    assert "Traceback" not in said


@dataclass(frozen=True)
class Sources:
    """Versions that can be pushed, whatever is wrong with them."""

    good: str
    cnn: str
    nan: str
    huge: str


@pytest.fixture(scope="module")
def sources(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    made = tmp_path_factory.mktemp("sources")
    graphs = {"good": good_graph(), "nan": nan_graph(), "huge": huge_graph()}
    names = {}
    for name, content in graphs.items():
        (made / f"{name}.onnx").write_bytes(content)
        names[name] = desk.push(f"search-{name}", made / f"{name}.onnx", "", format=model.MODEL_FORMAT_ONNX)
    cnn = save_cnn(made / "cnn.pt")
    return Sources(cnn=desk.push("search-cnn", cnn, "", format=model.MODEL_FORMAT_TORCHSCRIPT), **names)


@dataclass(frozen=True)
class Bad:
    """A search that must fail, and what it must say."""

    source: str
    reason: str
    said: tuple[str, ...]
    spec: tuple[tuple[str, Any], ...] = ()


def told(text: str) -> tuple[tuple[str, str]]:
    return (("tensor_information", text),)


FAILING = {
    "an archive and nobody to say its shapes": Bad(
        "cnn", "INVALID_SPEC", ("declare image", "does not keep the shapes")
    ),
    "an archive and more inputs than it takes": Bad(
        "cnn",
        "INVALID_SPEC",
        ("declares 2 inputs", "takes 1: image"),
        told("input_0:float(1*1*8*8)\ninput_1:float(1*1*8*8)"),
    ),
    "an archive and channels that it does not take": Bad(
        "cnn", "SHAPE_MISMATCH", ("forward", "channels"), told("input_0:float(1*3*8*8)")
    ),
    "NaN": Bad("nan", "PARITY_FAILED", ("only NaN or infinity in output 'y'", "4 samples")),
    "more than the memory": Bad("huge", "OUT_OF_MEMORY", ("memory",), (("memory_limit_bytes", 3 << 30),)),
}


@pytest.fixture(scope="module")
def tasks(desk: Desk, sources: Sources) -> Iterator[dict[str, optimizer.OptimizationTask]]:
    """All searches that fail, in line one behind the other, each with a place of its own."""
    before = [*desk.versions("search-good"), *desk.versions("search-cnn")]
    made = {}
    for index, (what, bad) in enumerate(FAILING.items()):
        spec = {"output_location": f"bad/{index}", **dict(bad.spec)}
        made[what] = create(desk, getattr(sources, bad.source), **spec)
    yield made
    for task in made.values():  # one whose test was left out is still in line
        desk.cancel(task)
    wait_for(desk.clean)
    assert [*desk.versions("search-good"), *desk.versions("search-cnn")] == before
    assert not desk.keys("bad/")


@pytest.mark.parametrize("what", FAILING)
def test_a_search_that_cannot_succeed_says_why(desk: Desk, tasks: dict[str, Any], what: str) -> None:
    ended = desk.finish(tasks[what])
    assert ended.status.state == task_pb2.TASK_STATE_FAILED, ended
    assert not ended.HasField("result")
    assert len(ended.attempts) == 1, ended.attempts
    failure = ended.status.failure
    assert word(failure_pb2.FailureReason, failure.reason) == FAILING[what].reason, failure
    for words in FAILING[what].said:
        assert words in failure.message


REFUSED: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "a range whose maximum is less": (
        {"tensor_information": "input_0:float(1*4)\ninput_1:float(1*2048*4,1*1024*4)"},
        "tensor_information",
        ("line 2, column 26", "at least the minimum, 2048", "1024*4", "Write one element a line"),
    ),
    "a word that is no dtype": ({"tensor_information": "x:flaot(1*4)"}, "tensor_information", ("line 1, column 3",)),
    "another extent": (
        {"tensor_information": "input_0:float(1*5)"},
        "tensor_information",
        ("'x'", "1*5", "takes 1*4", "axis 1 is fixed at 4", "Declare what the graph takes"),
    ),
    "a range for a fixed graph": (
        {"tensor_information": "input_0:float(1*4,1*8)"},
        "tensor_information",
        ("'x'", "1*4 to 1*8", "takes 1*4", "cannot vary"),
    ),
    "more axes": ({"tensor_information": "x:float(1*4*1)"}, "tensor_information", ("'x'", "2 axes and not 3")),
    "another name": ({"tensor_information": "z:float(1*4)"}, "tensor_information", ("line 1", "'z'", "it has x")),
    "another dtype": ({"tensor_information": "x:int8(1*4)"}, "tensor_information", ("'x'", "int8", "takes float32")),
    "one input too many": (
        {"tensor_information": "input_0:float(1*4)\ninput_1:float(1*4)"},
        "tensor_information",
        ("says 2 inputs", "has 1: x"),
    ),
    "a device that is not there": ({"device": "cpu-z80"}, "device", ("cpu-z80", "there are cpu-x86-64")),
    "INT8 without data": (
        {"precision_goal": "PRECISION_INT8"},
        "precision_goal",
        ("name a dataset", "calibration_samples"),
    ),
    "a bound without a dataset": ({"max_degradation": 1.0}, "max_degradation", ("name one in `dataset`",)),
    "the place of the sources": ({"output_location": "cas/mine"}, "output_location", ("'cas'", "choose another")),
    "a place outside": ({"output_location": "a/../cas"}, "output_location", ("'..' part", "optimized/vision")),
    "a limit shorter than the budget": (
        {"search_budget": Duration(seconds=60), "timeout": Duration(seconds=60)},
        "timeout",
        ("60 s", "give it more"),
    ),
    "too little memory": ({"memory_limit_bytes": 1 << 20}, "memory_limit_bytes", ("1073741824 bytes are needed",)),
    "an engine that is not here": ({"engine_version": "0.0.1"}, "engine_version", ("'0.0.1'", "for the newest")),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_search_that_cannot_be_makes_no_task(desk: Desk, sources: Sources, what: str) -> None:
    spec, field, said = REFUSED[what]
    found = refused(lambda: create(desk, sources.good, **spec))
    reason = "UNKNOWN_DEVICE" if field == "device" else "INVALID_ARGUMENT"
    assert (found.code, found.reason) == ("INVALID_ARGUMENT", reason)
    assert found.fields == (f"task.spec.{field}",)
    for words in said:
        assert words in found.message


def test_what_is_not_there_is_named(desk: Desk, sources: Sources) -> None:
    for name, make in (
        ("models/absent", lambda: create(desk, "models/absent/versions/1")),
        ("datasets/none", lambda: create(desk, sources.good, dataset="datasets/none")),
    ):
        found = refused(make)
        assert found.code == "NOT_FOUND"
        assert name in found.message


def test_two_searches_do_not_write_one_place(desk: Desk, sources: Sources) -> None:
    first = create(desk, sources.good, output_location="shared", search_budget=Duration(seconds=60))
    try:
        found = refused(lambda: create(desk, sources.good, output_location="shared", seed=4))
    finally:
        desk.cancel(first)
    assert (found.code, found.reason) == ("FAILED_PRECONDITION", "OUTPUT_LOCATION_TAKEN")
    assert first.name in found.message
    assert "Name another folder in output_location, or wait for its end" in found.message
    assert desk.finish(first).status.state == task_pb2.TASK_STATE_CANCELLED
    # The place is free again, and a second is enough.
    assert (
        desk.finish(create(desk, sources.good, output_location="shared")).status.state == task_pb2.TASK_STATE_SUCCEEDED
    )
