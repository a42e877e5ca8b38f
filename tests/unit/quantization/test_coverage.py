"""What of a form is in integers: of real forms of every tool, and of graphs written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.failures import FailureReason
from engines.quantization.coverage import Coverage, coverage_of, nothing_quantized
from engines.quantization.ort_static import place_qdq
from engines.quantization.weights import compress_weights
from engines.runtimes.onnxruntime.dynamic_graph import quantize_products

RNG = np.random.default_rng(0)
SIDE = 64


def weights(name: str, *shape: int) -> Any:
    return numpy_helper.from_array(RNG.standard_normal(shape).astype(np.float32), name)


def saved(path: Path, nodes: list[Any], parameters: list[Any], shape: list[int | str]) -> Path:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [given], [made], parameters)
    opset = [helper.make_opsetid("", 17)]
    model = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opset, ir_version=9))
    onnx.save(model, str(path))
    return path


@pytest.fixture
def two_products(tmp_path: Path) -> Path:
    """A product of 64 x 64 weights, a Relu, and a product of 64 x 16."""
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "b"], ["y"], name="second"),
    ]
    parameters = [weights("a", SIDE, SIDE), weights("b", SIDE, 16)]
    return saved(tmp_path / "float.onnx", nodes, parameters, ["N", SIDE])


def test_a_graph_in_floating_point_has_nothing_in_integers(two_products: Path) -> None:
    assert coverage_of(two_products) == Coverage(2, 0, SIDE * SIDE + SIDE * 16, 0)


@pytest.mark.parametrize("excluded", [frozenset(), frozenset({"second"})])
def test_every_tool_is_told_by_the_same_figures(two_products: Path, tmp_path: Path, excluded: frozenset[str]) -> None:
    whole, second = SIDE * SIDE + SIDE * 16, SIDE * 16 if excluded else 0
    expected = Coverage(2, 2 - len(excluded), whole, whole - second)
    ranges = dict.fromkeys(("x", "h", "r", "y"), (-4.0, 4.0))
    place_qdq(
        two_products, tmp_path / "qdq.onnx", ranges,
        everything=False, per_channel=True, asymmetric=False, reduce_range=False, excluded=excluded,
    )  # fmt: skip
    assert coverage_of(tmp_path / "qdq.onnx") == expected
    quantize_products(two_products, tmp_path / "dynamic.onnx", per_channel=True, seven_bits=False, excluded=excluded)
    assert coverage_of(tmp_path / "dynamic.onnx") == expected
    model = onnx.load(str(two_products))
    for bits in (8, 4):
        made = compress_weights(model, bits, "onnxruntime", True, excluded, out_dir=tmp_path / f"w{bits}")
        assert coverage_of(made.path) == expected, bits
        made = compress_weights(model, bits, "openvino", True, excluded, out_dir=tmp_path / f"ir{bits}")
        assert coverage_of(made.path) == expected, bits


@pytest.mark.parametrize("on_ir", [False, True])
def test_what_nncf_makes_is_told(two_products: Path, tmp_path: Path, on_ir: bool) -> None:
    from engines.quantization.nncf_quantizers import Nncf
    from engines.quantization.quantizers import Material, Settings

    feeds: Any = [{"x": RNG.standard_normal((1, SIDE)).astype(np.float32)} for _ in range(4)]
    settings = Settings("INT8", "MINMAX", False, True, False, False, "openvino" if on_ir else "onnxruntime")
    material = Material(two_products, feeds, tmp_path, lambda _words: None)
    made = Nncf(on_ir).quantize(material, settings, frozenset(), tmp_path)
    whole = SIDE * SIDE + SIDE * 16
    assert coverage_of(made) == Coverage(2, 2, whole, whole)


def test_one_operator_in_integers_that_is_no_product_is_none(tmp_path: Path) -> None:
    branches = [
        helper.make_graph(
            [helper.make_node("Conv", ["x", "w"], [f"y{number}"], name=f"conv{number}")],
            f"branch{number}",
            [],
            [helper.make_tensor_value_info(f"y{number}", TensorProto.FLOAT, None)],
        )
        for number in range(2)
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("ReduceMean", ["d"], ["m"], keepdims=0),
        helper.make_node("Greater", ["m", "none"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    parameters = [
        weights("w", 2, 3, 3, 3),
        *(
            numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in (("scale", 0.1), ("none", 0.0))
        ),
        numpy_helper.from_array(np.array(0, np.int8), "zero"),
    ]
    found = coverage_of(saved(tmp_path / "if.onnx", nodes, parameters, [1, 3, 8, 8]))
    assert found == Coverage(2, 0, 54, 0)  # the weights that both branches read count once
    failure = nothing_quantized(found, "INT8", frozenset())
    assert failure.reason is FailureReason.UNSUPPORTED_OPERATOR
    assert failure.message.startswith("Nothing here can be quantized")
    assert "none of its 2 convolutions and products" in failure.message
    assert "out of branches" in failure.suggested_fix
    assert "Exclude fewer nodes" in nothing_quantized(found, "INT8", frozenset({"conv0"})).suggested_fix


def test_coverage_adds_up_and_is_told_in_words() -> None:
    whole = sum((Coverage(3, 1, 100, 80), Coverage(1, 1, 0, 0)), Coverage())
    assert str(whole) == "2 of 4 products, 80% of their weights"
    assert not whole.is_small
    assert Coverage(3, 1, 100, 80).is_small
    assert Coverage(1, 1, 100, 20).is_small
