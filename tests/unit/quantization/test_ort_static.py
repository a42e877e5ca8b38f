"""Where QDQ is placed, and that ONNX Runtime computes integers there."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from engines.graph.hygiene import save_model, tidy
from engines.quantization.ort_static import place_qdq
from engines.quantization.ranges import find_ranges
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession

F = onnx.TensorProto.FLOAT
X = np.random.default_rng(0).standard_normal((2, 5, 16)).astype(np.float32)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """Give two products with biases, a product of activations, and a residual."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="first"),
        helper.make_node("Add", ["a", "b1"], ["b"], name="bias"),
        helper.make_node("Transpose", ["b"], ["t"], perm=[0, 2, 1], name="turn"),
        helper.make_node("MatMul", ["t", "b"], ["c"], name="attend"),
        helper.make_node("MatMul", ["c", "w2"], ["d"], name="second"),
        helper.make_node("Add", ["d", "c"], ["y"], name="residual"),
    ]
    arrays = {"w1": (16, 16), "b1": (16,), "w2": (16, 16)}
    weights = [numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), n) for n, shape in arrays.items()]
    given = helper.make_tensor_value_info("x", F, [2, 5, 16])
    taken = helper.make_tensor_value_info("y", F, [2, 16, 16])
    built = helper.make_graph(nodes, "g", [given], [taken], weights)
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    save_model(tidy(model), tmp_path / "g.onnx")
    return tmp_path / "g.onnx"


def placed(graph: Path, *, everything: bool = False, excluded: frozenset[str] = frozenset(), **options: Any) -> Path:
    ranges = find_ranges(graph, [{"x": X}], "MINMAX", graph.parent, lambda _done: None)
    settings: dict[str, Any] = {"per_channel": True, "asymmetric": False, "reduce_range": False, **options}
    target = graph.parent / "q.onnx"
    return place_qdq(graph, target, ranges, everything=everything, excluded=excluded, **settings)


def quantized(path: Path) -> set[str]:
    model = onnx.load(path)
    brought_back = {node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    return {node.name for node in model.graph.node if not brought_back.isdisjoint(node.input)} - {""}


def test_products_with_weights_alone_are_quantized(graph: Path) -> None:
    assert {"first", "second"} <= quantized(placed(graph)) <= {"first", "second"}
    assert "attend" in quantized(placed(graph, everything=True))
    assert quantized(placed(graph, excluded=frozenset({"first"}))) == {"second"}


@pytest.mark.parametrize("options", [{}, {"asymmetric": True}, {"per_channel": False}, {"reduce_range": True}])
def test_the_result_is_close_to_the_source(options: dict[str, Any], graph: Path) -> None:
    expected = OnnxRuntimeSession(graph, 1, optimise=False).run({"x": X})["y"]
    actual = OnnxRuntimeSession(placed(graph, **options), 1, optimise=True).run({"x": X})["y"]
    noise = np.linalg.norm(actual - expected) / np.linalg.norm(expected)
    assert 0 < noise < 0.05


def test_a_bias_behind_a_product_keeps_its_value(graph: Path) -> None:
    model = onnx.load(placed(graph))
    biases = [tensor for tensor in model.graph.initializer if tensor.name.startswith("b1")]
    original = next(tensor for tensor in onnx.load(graph).graph.initializer if tensor.name == "b1")
    (bias,) = biases
    assert list(bias.dims) == [1, 1, 16]
    np.testing.assert_array_equal(numpy_helper.to_array(bias).ravel(), numpy_helper.to_array(original))


def test_seven_bits_are_seven(graph: Path) -> None:
    model = onnx.load(placed(graph, reduce_range=True))
    weights = [numpy_helper.to_array(t) for t in model.graph.initializer if t.name.endswith("_quantized")]
    assert weights
    assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) <= 64


def test_a_residual_reads_the_value_itself(graph: Path) -> None:
    model = onnx.load(placed(graph))
    residual = next(node for node in model.graph.node if node.name == "residual")
    assert set(residual.input) == {"d", "c"}
