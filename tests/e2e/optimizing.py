"""Files of models for the optimizer's tests, good and bad, and the searches that are asked of them."""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.duration_pb2 import Duration
from lathe.optimizer.v1 import optimization_service_pb2 as optimizer
from onnx import TensorProto, helper, numpy_helper

from tests.e2e.desk import Desk
from tests.unit.formats.tensorflow_bytes import node, write_graph, write_saved_model

DEVICE = "cpu-x86-64"
SMALL = 4
HUGE = (1024, 1024, 1024, 2)
"""Axes of a tensor of 8 GiB."""


def create(desk: Desk, version: str, **spec: Any) -> optimizer.OptimizationTask:
    """Create a search, of one second unless something else is said."""
    values: dict[str, Any] = {"device": DEVICE, "search_budget": Duration(seconds=1), "seed": 3, **spec}
    filled = optimizer.OptimizationSpec(model_version=version, **values)
    request = optimizer.CreateOptimizationTaskRequest(task=optimizer.OptimizationTask(spec=filled))
    return desk.rpc.optimizations.CreateOptimizationTask(request)


def graph(nodes: Sequence[onnx.NodeProto], weights: Sequence[onnx.TensorProto] = ()) -> bytes:
    """Return an ONNX file of nodes from `x` to `y`, both float32 of 1*4."""
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, SMALL)) for name in "xy")
    whole = helper.make_graph(nodes, "g", [given], [made], initializer=list(weights))
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = model.SerializeToString()
    return data


def good_graph(seed: int = 0) -> bytes:
    """Return a graph that nothing is wrong with; each seed has weights of its own."""
    matrix = np.random.default_rng(seed).standard_normal((SMALL, SMALL)).astype(np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["t"]), helper.make_node("Relu", ["t"], ["y"])]
    return graph(nodes, [numpy_helper.from_array(matrix, "w")])


def nan_graph() -> bytes:
    """Return the root of what is negative, whatever x is."""
    steps = (("Exp", "x", "p"), ("Neg", "p", "m"), ("Sqrt", "m", "y"))
    return graph([helper.make_node(name, [source], [target]) for name, source, target in steps])


def huge_graph() -> bytes:
    """Return a graph that has to hold HUGE in memory, though its file is small."""
    shapes = {"all": HUGE, "one": (1, 1, 1, 1)}
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=1),
        helper.make_node("Reshape", ["largest", "one"], ["point"]),
        helper.make_node("Expand", ["point", "all"], ["space"]),
        helper.make_node("ReduceSum", ["space"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    return graph(nodes, [numpy_helper.from_array(np.array(shape, np.int64), name) for name, shape in shapes.items()])


def save_cnn(path: Path) -> Path:
    """Trace a small network of pictures and save the archive, which keeps no shape of its input."""
    import torch

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.head = torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Linear(4, 10)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            scores: torch.Tensor = self.head(torch.relu(self.convolution(image)).mean((2, 3)))
            return scores

    torch.manual_seed(0)
    jit: Any = torch.jit
    jit.save(jit.trace(Network().eval(), torch.ones(1, 1, 8, 8)), str(path))
    return path


def write_bad_sources(folder: Path) -> None:
    """Write every source that must not become a version, each under the name that the tests know it by."""
    folder.joinpath("pickle.pt").write_bytes(pickle.dumps({"weights": [1.0] * 100}))
    folder.joinpath("pickle.pth").write_bytes(pickle.dumps({"weights": [1.0] * 100}))
    folder.joinpath("operator.onnx").write_bytes(graph([helper.make_node("Frobnicate", ["x"], ["y"])]))
    cycle = (("Relu", ["b"], "a"), ("Relu", ["a"], "b"), ("Add", ["x", "a"], "y"))
    folder.joinpath("cycle.onnx").write_bytes(graph([helper.make_node(name, of, [to]) for name, of, to in cycle]))
    folder.joinpath("nobody.onnx").write_bytes(graph([helper.make_node("Add", ["x", "nobody"], ["y"])]))
    product = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    folder.joinpath("weightless.onnx").write_bytes(graph(product, [_weights()]))
    folder.joinpath("outside.onnx").write_bytes(graph(product, [_weights("../../../../etc/passwd")]))
    folder.joinpath("empty.onnx").write_bytes(b"")
    beside = folder / "beside"
    beside.mkdir()
    beside.joinpath("model.onnx").write_bytes(graph(product, [_weights("weights.bin")]))
    beside.joinpath("weights.bin").write_bytes(b"")
    write_graph(folder / "outputless.pb", node("x", "Placeholder", shape=[1, 4]), node("done", "NoOp", ["^x"]))
    python = [node("x", "Placeholder", shape=[1, 4]), node("y", "PyFunc", ["x"])]
    write_saved_model(folder / "python", *python, signatures=["serving_default"])
    remote = folder / "remote"
    remote.mkdir()
    asks = {"model_type": "mine", "architectures": ["Mine"], "auto_map": {"AutoModel": "modeling.Mine"}}
    remote.joinpath("config.json").write_text(json.dumps(asks))
    remote.joinpath("modeling.py").write_text("open('/tmp/it-ran', 'w')\n")
    remote.joinpath("model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def _weights(location: str = "") -> onnx.TensorProto:
    """Return weights without a byte in the graph: they lie elsewhere if a place is given."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[SMALL, SMALL])
    if location:
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", "0"), ("length", "64")):
            tensor.external_data.add(key=key, value=value)
    return tensor
