"""Weights of four bits that the graph dequantizes: what they compute, how they are grouped, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from engines.failures import EngineFailure
from engines.quantization.coverage import coverage_of
from engines.quantization.recipes import first_recipes, settings_of
from engines.quantization.request import QuantizationSpec
from engines.quantization.weights import compress_weights
from engines.quantization.weights_blocked import quantized
from engines.tensors import Array, Arrays
from tests.unit.quantization.graphs import cosine, graph, run, token_feed, transformer, value, weights

RUNTIME = "tensorrt-rtx"


def computed(path: Path, feed: Arrays) -> Array:
    """Return what the graph says, operator by operator: ONNX Runtime would multiply in integers otherwise."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found: Array = session.run(["y"], feed)[0]
    return found


def compressed(model: onnx.ModelProto, directory: Path, **more: Any) -> Any:
    return compress_weights(model, 4, RUNTIME, True, more.pop("excluded", set()), out_dir=directory, **more)


def test_a_transformer_computes_nearly_the_same(tmp_path: Path) -> None:
    made = compressed(transformer(), tmp_path, float_activations=True)
    assert made.nodes == ("query", "key", "feed", "head")
    found = cosine(run(transformer(), token_feed(), tmp_path)["y"], computed(made.path, token_feed()))
    other = compress_weights(transformer(), 4, "onnxruntime", True, {"embedding"}, out_dir=tmp_path / "nbits")
    assert 0.96 < found < 1
    assert found > cosine(
        run(transformer(), token_feed(), tmp_path)["y"], run(onnx.load(other.path), token_feed(), tmp_path)["y"]
    )
    model = onnx.load(made.path)
    narrow = [tensor for tensor in model.graph.initializer if tensor.data_type == onnx.TensorProto.INT4]
    assert len(narrow) == 4
    whole = coverage_of(made.path)
    assert (whole.quantized_products, whole.products) == (4, 7)  # the embedding, and two products of attention
    assert whole.quantized_weights == sum(int(np.prod(tensor.dims)) for tensor in narrow)


def test_a_block_has_the_step_that_loses_least() -> None:
    matrix = weights(128, 8)
    matrix[64, 3] = 40 * np.abs(matrix).max()  # one that is far out: its block keeps it, and no other block knows of it
    values, steps = quantized(matrix, 64)
    assert (values.shape, steps.shape, values.dtype.name) == ((128, 8), (2, 8), "int4")
    whole = values.astype(np.float32)
    assert (whole.min() >= -8, whole.max()) == (True, 7)
    error = np.abs(whole * np.repeat(steps, 64, axis=0) - matrix)
    plain = np.abs(matrix).reshape(2, 64, 8).max(axis=1) / 7
    rounded = np.rint(matrix / np.repeat(plain, 64, axis=0)) * np.repeat(plain, 64, axis=0)
    assert (error**2).sum() <= ((rounded - matrix) ** 2).sum()
    assert error[:64].max() < error[64:].max()
    assert not quantized(np.zeros((64, 2), np.float32), 64)[0].astype(np.int8).any()


def test_gemm_and_shared_weights_are_written_once(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], name="first", transB=1),
        helper.make_node("MatMul", ["h", "v"], ["i"], name="second"),
        helper.make_node("MatMul", ["i", "v"], ["y"], name="third"),
    ]
    parameters = {"w": weights(64, 128), "b": weights(64, 1).ravel(), "v": weights(64, 64, seed=1)}
    model = graph(nodes, parameters, [value("x", ["n", 128])], [value("y", ["n", 64])], opset=17)
    made = compressed(model, tmp_path)
    assert made.nodes == ("first", "second", "third")
    written = onnx.load(made.path)
    onnx.checker.check_model(written)
    assert [node.op_type for node in written.graph.node].count("DequantizeLinear") == 2
    assert not any(node.op_type == "Gemm" for node in written.graph.node)
    feed = {"x": np.random.default_rng(0).standard_normal((3, 128)).astype(np.float32)}
    assert cosine(run(model, feed, tmp_path)["y"], computed(made.path, feed)) > 0.97


def test_matrices_that_have_no_whole_blocks_stay(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="narrow"),
        helper.make_node("MatMul", ["h", "v"], ["y"], name="wide"),
    ]
    parameters = {"w": weights(48, 64), "v": weights(64, 8, seed=1)}
    model = graph(nodes, parameters, [value("x", ["n", 48])], [value("y", ["n", 8])])
    made = compressed(model, tmp_path)
    assert made.nodes == ("wide",)
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(made.path).graph.initializer}
    np.testing.assert_array_equal(kept["w"], parameters["w"])
    with pytest.raises(EngineFailure, match="No matrix has inputs in whole blocks of 128"):
        compressed(model, tmp_path, excluded={"wide"}, group_size=128)


@pytest.mark.parametrize(
    ("bits", "symmetric", "words"),
    [(8, True, "of 4 bits alone; for 8, choose the scheme STATIC"), (4, False, "about zero alone")],
)
def test_what_the_runtime_does_not_take_is_refused(bits: int, symmetric: bool, words: str, tmp_path: Path) -> None:
    with pytest.raises(EngineFailure, match=words):
        compress_weights(transformer(), bits, RUNTIME, True, set(), out_dir=tmp_path, symmetric=symmetric)


def test_products_are_in_floating_point_and_named_so() -> None:
    spec = QuantizationSpec.model_validate({"precision": "INT4", "scheme": "WEIGHT_ONLY"})
    (recipe,) = first_recipes(spec, settings_of(spec, transformer(), RUNTIME))
    assert recipe.name == "INT4 weights, floating-point products"
