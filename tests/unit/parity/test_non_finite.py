"""Why a source returns only NaN or infinity: the named cause is the true one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.formats.source import Source, SourceGraph
from engines.parity.non_finite import has_numbers, without_numbers
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.tensors.samples import generated
from engines.tensors.signature import Signature, TensorSpec

INPUT = TensorSpec.fixed("x", "float32", (1, 4))
OUTPUT = TensorSpec.fixed("y", "float32", (1, 4))


def told(path: Path, nodes: list[Any], weight: list[float]) -> tuple[str, str, str]:
    """Return message, node and advice about a graph of some nodes and the weight `w`."""
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy")
    weights = [numpy_helper.from_array(np.array(weight, np.float32), "w")]
    graph = helper.make_graph(nodes, "g", [given], [made], weights)
    opset = [helper.make_opsetid("", 17)]
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opset, ir_version=9))
    onnx.save(model, str(path))
    session = OnnxRuntimeSession(path, 1, optimise=False)
    signature = Signature((INPUT,), (OUTPUT,))
    source = Source(
        signature, lambda: SourceGraph(path, "test"), lambda values: [session.run({"x": values[0]})["y"]], None, {}
    )
    samples = generated((INPUT,), {}, 0)
    assert not any(has_numbers(source.run(feed)["y"]) for feed in samples.feeds)
    failure = without_numbers(source, samples, "y")
    return failure.message, failure.node, failure.suggested_fix


def test_weights_come_first(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"], name="mul")]
    message, node, fix = told(tmp_path / "net.onnx", nodes, [np.nan] * 4)
    assert message.endswith("its weights hold NaN: 'w' in 4 of 4 elements.")
    assert node == ""
    assert "checkpoint" in fix


def test_the_first_node_is_named_if_weights_are_finite(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Abs", ["x"], ["a"], name="abs"),
        helper.make_node("Neg", ["a"], ["b"], name="neg"),
        helper.make_node("Sqrt", ["b"], ["c"], name="root"),
        helper.make_node("Mul", ["c", "w"], ["y"], name="mul"),
    ]
    message, node, fix = told(tmp_path / "net.onnx", nodes, [1, 2, 3, 4])
    assert "NaN first comes out of node 'root' (Sqrt)" in message
    assert node == "root"
    assert "No weight is NaN" in fix


def test_an_overflow_before_it_is_named_too(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["w", "w"], ["big"], name="square"),
        helper.make_node("Sub", ["big", "big"], ["none"], name="sub"),
        helper.make_node("Add", ["x", "none"], ["y"], name="add"),
    ]
    message, node, _ = told(tmp_path / "net.onnx", nodes, [3e38] * 4)
    assert "infinity first comes out of node 'square' (Mul) and NaN first comes out of node 'sub' (Sub)" in message
    assert node == "sub"


@pytest.mark.parametrize(
    ("values", "tells"),
    [([np.nan, 1], True), ([np.nan, np.inf], False), ([], True)],
)
def test_one_finite_element_is_enough(values: list[float], tells: bool) -> None:
    assert has_numbers(np.array(values, np.float32)) is tells
    assert has_numbers(np.array([1, 2]))
