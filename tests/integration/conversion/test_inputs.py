"""Inputs that are no images: a state whose batch is not the first axis, a scalar with a value, axes left open."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import read_manifest
from engines.package.triton import lay_out
from tests.integration.conversion.workbench import Bench

RECURRENT = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.Linear(3, 3)

        def forward(self, x, state, rate):
            state = torch.tanh(self.cell(x) + state) * (rate / 16000)
            return state.sum(0), state

    @architecture("Net")
    def build():
        torch.manual_seed(0)
        return Net()
"""
INPUTS = [
    {"name": "x", "shape": ["1", "3"]},
    {"name": "state", "shape": ["2", "1", "3"], "batch_axis": 1},
    {"name": "rate", "dtype": "int64", "sample_values": [16000]},
]
TEXT = "x:float(1*3,4*3) state:float(2*1*3,2*4*3) batch=1 rate:int64() value=16000"


def onnx_request(bench: Bench, inputs: dict[str, list[str | int]], **fields: Any) -> dict[str, Any]:
    """Write a graph that doubles its inputs, float32 of the given axes, and return a request to convert it."""
    import onnx
    from onnx import TensorProto, helper

    def info(prefix: str) -> list[Any]:
        return [
            helper.make_tensor_value_info(f"{prefix}{name}", TensorProto.FLOAT, axes) for name, axes in inputs.items()
        ]

    nodes = [helper.make_node("Add", [name, name], [f"two_{name}"]) for name in inputs]
    graph = helper.make_graph(nodes, "g", info(""), info("two_"))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (bench.workdir / "source").mkdir()
    onnx.save(model, bench.workdir / "source" / "net.onnx")
    request = bench.request(source_format="ONNX", method="raw", inputs=[], max_batch=0)
    return {**request, "inputs": [{"path": "source/net.onnx"}], "architectures": {}, **fields}


def put_samples(bench: Bench, **arrays: Any) -> str:
    np.savez(bench.workdir / "samples.npz", **arrays)
    return "samples.npz"


def model_of(bench: Bench) -> Any:
    """Return the package, loaded by its own script."""
    import runpy

    return runpy.run_path(str(bench.package / "infer.py"))["Model"](bench.package)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "torchscript"])
@pytest.mark.parametrize("text", ["", TEXT])
def test_a_state_has_its_batch_on_its_own_axis(runtime: str, text: str, bench: Bench) -> None:
    import torch

    network = bench.put_network(RECURRENT)
    request = bench.request(runtime=runtime, method="raw", inputs=INPUTS, output_names=["y", "next"], max_batch=4)
    (component,) = bench.convert({**request, "tensor_information": text})["components"]
    assert component["parity"]["verdict"] == "PASS"
    manifest = read_manifest(bench.package)
    x, state, rate = manifest.components[0].signature.inputs
    assert (x.batch_axis, state.batch_axis, rate.value) == (None, 1, (16000.0,))
    assert state.shape is not None
    assert (state.shape.min, state.shape.max) == ((2, 1, 3), (2, 4, 3))
    command = [sys.executable, str(bench.package / "infer.py"), "--batch", "3"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "y: float32 3 * 3" in shown
    assert "next: float32 2 * 3 * 3" in shown
    rng = np.random.default_rng(0)
    x_value = rng.random((4, 3), np.float32)
    feed: dict[str, Any] = {"x": x_value, "state": rng.random((2, 4, 3), np.float32), "rate": np.int64(8000)}
    wanted = network(*(torch.from_numpy(np.asarray(value)) for value in feed.values()))[1].detach().numpy()
    np.testing.assert_allclose(model_of(bench).run(feed)["next"], wanted, atol=1e-5)
    more = {"x": rng.random((9, 3), np.float32), "state": rng.random((2, 9, 3), np.float32), "rate": np.int64(16000)}
    wanted = network(*(torch.from_numpy(np.asarray(value)) for value in more.values()))[1].detach().numpy()
    np.testing.assert_allclose(model_of(bench).run(more)["next"], wanted, atol=1e-5)
    assert "2 * 1..4 * 3, the batch is axis 1" in (bench.package / "README.md").read_text()
    assert "scalar, 16000 in a smoke run" in (bench.package / "README.md").read_text()
    with pytest.raises(ValueError, match="all inputs must have the same batch"):
        model_of(bench).run({**feed, "x": x_value[:2]})
    if runtime == "onnxruntime":
        (served,) = lay_out(manifest, "net", 1)
        assert served.config["max_batch_size"] == 0
        assert [list(entry["dims"]) for entry in served.config["input"]] == [[-1, 3], [2, -1, 3], [1]]
        assert "model_warmup" not in served.config  # zeros are not the rate that the network needs


def test_samples_say_what_a_graph_leaves_open(bench: Bench) -> None:
    request = onnx_request(bench, {"x": ["batch", "length"], "state": [2, "batch", 5]})
    samples = put_samples(bench, x=np.ones((3, 7), np.float32), state=np.ones((2, 3, 5), np.float32))
    (component,) = bench.convert({**request, "samples_path": samples})["components"]
    assert (component["parity"]["verdict"], component["parity"]["samples"]) == ("PASS", 3)
    (warning,) = component["warnings"]
    assert "takes batches of 1, the default" in warning
    shapes = [tensor.shape for tensor in read_manifest(bench.package).components[0].signature.inputs]
    assert [shape.max for shape in shapes if shape] == [(1, 7), (2, 1, 5)]


def test_an_axis_that_nothing_says_is_refused_before_anything_is_read(bench: Bench) -> None:
    with pytest.raises(EngineFailure, match=r"axis 1 of 'x' \(length\) open") as caught:
        bench.convert(onnx_request(bench, {"x": ["batch", "length"]}))
    assert caught.value.reason is FailureReason.INVALID_SPEC
    assert "--tensor-information 'x:float(1*128)'" in caught.value.suggested_fix
    assert not list(Path(bench.package).rglob("*.onnx"))


def test_a_range_keeps_an_axis_open(bench: Bench) -> None:
    request = onnx_request(bench, {"x": ["batch", "length"]}, tensor_information="x:float(1*2,4*16)")
    (component,) = bench.convert(request)["components"]
    assert component["parity"]["verdict"] == "PASS"
    assert component["warnings"] == []
    assert model_of(bench).run(np.ones((9, 16), np.float32))["two_x"].shape == (9, 16)


def test_a_scalar_of_the_users_samples_is_what_a_smoke_run_takes(bench: Bench) -> None:
    request = onnx_request(bench, {"x": [1, 2], "rate": []})
    samples = put_samples(bench, x=np.ones((4, 2), np.float32), rate=np.float32(16000))
    bench.convert({**request, "samples_path": samples})
    assert read_manifest(bench.package).components[0].signature.inputs[1].value == (16000.0,)


def test_text_is_taken_from_samples_and_never_made_up(bench: Bench) -> None:
    import onnx
    from onnx import TensorProto, helper

    labels: dict[str, Any] = {"keys_strings": ["cat", "dog"], "values_floats": [1.0, 2.0], "default_float": -1.0}
    node = helper.make_node("LabelEncoder", ["s"], ["y"], domain="ai.onnx.ml", **labels)
    ends = [helper.make_tensor_value_info("s", TensorProto.STRING, ["batch", 2])]
    graph = helper.make_graph([node], "g", ends, [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])])
    request = onnx_request(bench, {"x": [1]})
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), bench.workdir / "source" / "net.onnx")
    with pytest.raises(EngineFailure, match="takes text, and random text would prove nothing") as caught:
        bench.convert(request)
    assert "--samples" in caught.value.suggested_fix
    samples = put_samples(bench, s=np.array([["cat", "bird"], ["dog", ""], ["cat", "dog"]]))
    (component,) = bench.convert({**request, "samples_path": samples})["components"]
    assert (component["parity"]["verdict"], component["parity"]["samples"]) == ("PASS", 3)
    np.testing.assert_array_equal(model_of(bench).run(np.array([["dog", "eel"]]))["y"], [[2, -1]])
    with pytest.raises(ValueError, match="takes string, not float32"):
        model_of(bench).run(np.ones((1, 2), np.float32))
    with pytest.raises(EngineFailure, match="'s' is float64; the input takes string"):
        bench.convert({**request, "samples_path": put_samples(bench, s=np.ones((1, 2)))})
