"""A model of sound from the command line: open axes, a state whose batch is its second axis, a scalar rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.e2e.desk import Desk

TEMPLATE = "onnx-cpu-x86-64-onnxruntime-fp32"
TEXT = "sound:float(1*64) state:float(2*1*8) batch=1 rate:int64() value=16000"


@pytest.fixture(scope="module")
def voice(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Push the model and return its name as the command line takes it."""
    weights = numpy_helper.from_array(np.random.default_rng(0).standard_normal((1, 8)).astype(np.float32), "w")
    nodes = [
        helper.make_node("Cast", ["rate"], ["hertz"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["sound"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["mean", "w"], ["voice"]),
        helper.make_node("Mul", ["voice", "hertz"], ["loud"]),
        helper.make_node("Add", ["state", "loud"], ["next"]),
    ]
    sound = helper.make_tensor_value_info("sound", TensorProto.FLOAT, ["batch", "samples"])
    state = helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, "batch", 8])
    rate = helper.make_tensor_value_info("rate", TensorProto.INT64, [])
    after = helper.make_tensor_value_info("next", TensorProto.FLOAT, [2, "batch", 8])
    graph = helper.make_graph(nodes, "voice", [sound, state, rate], [after], [weights])
    file = tmp_path_factory.mktemp("voice") / "voice.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)
    pushed: str = desk.suite.json("models", "push", "voice", str(file), "--create")["name"]
    return pushed.removeprefix("models/").replace("/versions/", "/")


def test_open_axes_are_described_as_such(desk: Desk, voice: str) -> None:
    shown = desk.suite.lathe("models", "describe", voice).stdout
    assert "any (batch)" in shown
    assert "2147483647" not in shown


@pytest.mark.parametrize(
    "command",
    [
        ["convert", "-t", TEMPLATE],
        ["quantize", "--scheme", "dynamic", "--device", "cpu-x86-64", "--runtime", "onnxruntime"],
        ["optimize", "--budget", "5"],
    ],
    ids=lambda command: command[0],
)
def test_what_is_open_is_refused_with_what_to_type_and_works_as_typed(
    desk: Desk, voice: str, command: list[str]
) -> None:
    verb, *options = command
    refused = desk.suite.lathe(verb, voice, *options, check=False)
    assert refused.returncode == 2, refused.stderr
    said = " ".join(refused.stderr.split())
    assert "axis 1 of 'sound' (samples)" in said
    assert "--tensor-information 'sound:float(1*128) state:float(2*1*8) rate:int64()'" in said
    task = desk.suite.json(verb, voice, *options, "--tensor-information", TEXT)
    assert task["status"]["state"] == "TASK_STATE_SUCCEEDED"


def test_samples_say_it_as_well_and_the_result_warns_of_the_batch(desk: Desk, voice: str, tmp_path: Path) -> None:
    samples = tmp_path / "samples.npz"
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "sound": rng.random((3, 32), np.float32),
        "state": rng.random((2, 3, 8), np.float32),
        "rate": 8000,
    }
    np.savez(samples, allow_pickle=False, **arrays)
    done = desk.suite.lathe("convert", voice, "-t", TEMPLATE, "--samples", str(samples))
    assert "takes batches of 1, the default" in " ".join((done.stdout + done.stderr).split())
