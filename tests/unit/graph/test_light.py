"""Reading a graph without its weights: the kept parts, and memory independent of the file's size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.failures import EngineFailure
from engines.graph.hygiene import check, external_files, load_model
from engines.graph.light import read_light
from engines.graph.walk import all_tensors
from engines.graph.wire import varint_bytes
from tests.unit.graph import graphs

_MEASURED = """
import json, resource, sys
from pathlib import Path
from engines.api.description import describe
class Report:
    def progress(self, fraction, message): ...
import onnx
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = describe({"format": "ONNX", "files": ["m.onnx"]}, Path(sys.argv[1]), Report())
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([found["parameter_count"], (after - before) / 1024]))
"""


def _weights(count: int) -> np.ndarray[Any, Any]:
    return np.arange(count, dtype=np.float32)


def _everywhere(count: int) -> Any:
    """A model with weights in an initializer, a node, a branch and a local function, as numbers and as bytes."""
    from onnx import TensorProto, helper, numpy_helper

    inner = graphs.branch("Neg", "x", "neg", [count])
    inner.initializer.append(numpy_helper.from_array(_weights(count), "inner"))
    numbers = helper.make_tensor("numbers", TensorProto.FLOAT, [count], _weights(count).tolist())
    whole = helper.make_tensor("whole", TensorProto.INT64, [count], list(range(count)))
    opset = [helper.make_opsetid("", 20)]
    constant = graphs.node("Constant", [], ["f"], value=numbers)
    function = helper.make_function("own", "F", ["a"], ["b"], [constant, graphs.node("Add", ["a", "f"], ["b"])], opset)
    nodes = [
        graphs.node("Constant", [], ["c"], value=numbers),
        graphs.node("If", ["which"], ["z"], then_branch=inner, else_branch=graphs.branch("Neg", "x", "n", [count])),
        graphs.node("Sum", ["z", "c", "w"], ["s"]),
        graphs.node("F", ["s"], ["y"], domain="own"),
    ]
    inputs: list[graphs.ValueInfo] = [("x", "float32", [count]), ("which", "bool", [])]
    model = graphs.model(nodes, inputs, [("y", "float32", [count])], {"w": _weights(count)})
    model.opset_import.extend([helper.make_opsetid("own", 1)])
    model.graph.initializer.append(whole)
    model.functions.append(function)
    return model


def test_only_the_elements_of_large_tensors_are_left_out(tmp_path: Path) -> None:
    import onnx

    whole = _everywhere(5000)
    path = tmp_path / "m.onnx"
    path.write_bytes(whole.SerializeToString())
    light = read_light(path)
    assert light.ByteSize() < 2000 < 4 * 5000 < whole.ByteSize()
    assert len(list(all_tensors(light))) == 5
    for tensor in all_tensors(light):
        assert tensor.data_location == onnx.TensorProto.EXTERNAL
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    for tensor in all_tensors(whole):
        for contents in ("raw_data", "float_data", "int64_data"):
            tensor.ClearField(contents)
    assert light == whole


def test_a_light_model_passes_the_checker_and_names_no_other_file(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(_everywhere(5000).SerializeToString())
    light = load_model(tmp_path / "m.onnx", weights=False)
    check(light)
    assert external_files(light, tmp_path / "m.onnx") == []


@given(count=st.integers(0, 400), cut=st.floats(0, 0.999))
def test_small_models_are_read_as_they_are_and_cut_ones_are_refused(
    tmp_path_factory: pytest.TempPathFactory, count: int, cut: float
) -> None:
    path = tmp_path_factory.mktemp("light") / "m.onnx"
    whole = _everywhere(count)
    data = whole.SerializeToString()
    path.write_bytes(data)
    assert read_light(path) == whole or 4 * count >= 1024
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(EngineFailure):
        check(load_model(path, weights=False))


def _write_sparse(path: Path, elements: int) -> None:
    """Write a model whose one tensor is sparse in the file."""
    from onnx import TensorProto

    model = graphs.model(
        [graphs.node("MatMul", ["x", "w"], ["y"])], [("x", "float32", [1, 1])], [("y", "float32", None)]
    )
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, elements])
    size = 4 * elements
    head = tensor.SerializeToString() + varint_bytes(9 << 3 | 2) + varint_bytes(size)
    body = varint_bytes(5 << 3 | 2) + varint_bytes(len(head) + size) + head
    graph = model.graph.SerializeToString()
    model.ClearField("graph")
    with path.open("wb") as file:
        file.write(model.SerializeToString())
        file.write(varint_bytes(7 << 3 | 2) + varint_bytes(len(graph) + len(body) + size) + graph + body)
        file.truncate(file.tell() + size)


def test_describing_a_file_of_nearly_two_gib_takes_little_memory(tmp_path: Path) -> None:
    elements = 530_000_000
    _write_sparse(tmp_path / "m.onnx", elements)
    assert (tmp_path / "m.onnx").stat().st_size > 2_100_000_000
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _MEASURED, str(tmp_path)]
    answer = subprocess.run(command, env=environment, capture_output=True, check=True, text=True).stdout
    parameters, mebibytes = json.loads(answer)
    assert parameters == elements
    assert mebibytes < 100


def test_a_file_that_protobuf_cannot_hold_is_refused(tmp_path: Path) -> None:
    _write_sparse(tmp_path / "m.onnx", 540_000_000)
    with pytest.raises(EngineFailure, match="larger than 2 GiB"):
        load_model(tmp_path / "m.onnx", weights=False)
