"""Quantization that a graph carries already, whoever put it there."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from engines.graph.quantized import quantized_nodes
from engines.quantization.weights import compress_weights
from tests.unit.quantization import graphs, quantized


def test_a_graph_in_floating_point_has_none() -> None:
    assert quantized_nodes(graphs.network()) == []
    assert quantized_nodes(graphs.transformer()) == []


def test_static_quantization_by_onnxruntime(tmp_path: Path) -> None:
    found = quantized_nodes(quantized.by_onnxruntime(graphs.network(), graphs.image_feeds(), tmp_path))
    assert {"conv1", "conv2", "add", "pool", "fc", "gemm"} <= set(found)
    assert not any("QuantizeLinear" in name for name in found if not name.startswith("y_"))


def test_operators_on_integers_by_onnxruntime(tmp_path: Path) -> None:
    from onnxruntime.quantization import QuantFormat

    model = quantized.by_onnxruntime(
        graphs.network(), graphs.image_feeds(), tmp_path, quant_format=QuantFormat.QOperator
    )
    assert {"conv1_quant", "fc_quant", "gemm_quant"} <= set(quantized_nodes(model))


def test_dynamic_quantization_by_onnxruntime(tmp_path: Path) -> None:
    found = quantized_nodes(quantized.dynamically(graphs.network(), tmp_path))
    assert {"conv1_quant", "conv2_quant", "fc_quant"} <= set(found)


def test_static_quantization_by_nncf() -> None:
    found = quantized_nodes(quantized.by_nncf(graphs.network(), graphs.image_feeds()))
    assert {"conv1", "conv2", "fc", "gemm"} <= set(found)
    assert "relu1" not in found


def test_compressed_weights(tmp_path: Path) -> None:
    made = compress_weights(graphs.transformer(), 4, "onnxruntime", True, set(), out_dir=tmp_path)
    assert len(quantized_nodes(onnx.load(made.path))) == len(made.nodes) == 5


@pytest.mark.parametrize("converted", [False, True])
def test_quantization_aware_training_by_torch(converted: bool, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = quantized_nodes(quantized.by_torch(tmp_path, converted=converted))
    assert {name.rsplit("/", 1)[-1] for name in found} >= {"Conv", "Relu", "Gemm"}


def test_an_integer_parameter_that_plain_operators_scale_counts() -> None:
    nodes = [
        helper.make_node("Cast", ["w"], ["wf"], name="widen", to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["wf", "scale"], ["ws"], name="scale_it"),
        helper.make_node("MatMul", ["x", "ws"], ["y"], name="product"),
    ]
    parameters = {"w": np.ones((4, 3), np.int8), "scale": np.float32(0.1)}
    model = graphs.graph(nodes, parameters, [graphs.value("x", [1, 4])], [graphs.value("y", [1, 3])])
    assert quantized_nodes(model) == ["scale_it"]


def test_a_pair_that_only_the_output_reads_stands_for_itself() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="down"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], name="up"),
    ]
    parameters = {"s": np.float32(0.1), "z": np.int8(0)}
    model = graphs.graph(nodes, parameters, [graphs.value("x", [1, 4])], [graphs.value("y", [1, 4])])
    assert quantized_nodes(model) == ["up"]


def test_quantization_in_a_branch_is_found() -> None:
    branch = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="down"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="up"),
        helper.make_node("Relu", ["d"], ["t"], name="inner"),
    ]
    other = helper.make_graph([helper.make_node("Relu", ["x"], ["e"])], "else", [], [graphs.value("e", [1, 4])])
    then = helper.make_graph(branch, "then", [], [graphs.value("t", [1, 4])])
    model = graphs.graph(
        [helper.make_node("If", ["c"], ["y"], name="choose", then_branch=then, else_branch=other)],
        {"s": np.float32(0.1), "z": np.int8(0)},
        [graphs.value("x", [1, 4]), graphs.value("c", [], onnx.TensorProto.BOOL)],
        [graphs.value("y", [1, 4])],
    )
    assert quantized_nodes(model) == ["inner"]
