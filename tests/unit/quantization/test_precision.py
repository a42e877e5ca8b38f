"""Half precision written into graphs: types, casts, ranges, subgraphs; checked by running them."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from engines.failures import EngineFailure, FailureReason
from engines.graph.hygiene import save_model
from engines.graph.precision import half_elements, to_half
from engines.runtimes import BuildSource, open_form
from engines.tensors.signature import Signature, TensorSpec
from tests.unit.quantization import graphs
from tests.unit.quantization.graphs import cosine, graph, network, run, token_feed, transformer, value, weights
from tests.unit.runtimes.building import build

X, Y = value("x", [1, 4]), value("y", [1, 4])
FEED = {"x": np.array([[0.5, -1.0, 2.0, 3.0]], np.float32)}
OPENVINO = Signature((TensorSpec.fixed("x", "float32", (1, 4)),), (TensorSpec.fixed("y", "float32", (1, 4)),))


def operators(model: onnx.ModelProto) -> Counter[str]:
    """Return how often each operator occurs in the main graph."""
    return Counter(node.op_type for node in model.graph.node)


def check(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model after ONNX's own check of all types."""
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("precision", ["FP16", "BF16"])
def test_weights_are_cast_once_and_the_interface_stays(precision: str) -> None:
    half = check(to_half(network(), precision))
    assert operators(half)["Cast"] == 2
    for tensor in half.graph.initializer:
        assert tensor.data_type == getattr(TensorProto, {"FP16": "FLOAT16", "BF16": "BFLOAT16"}[precision])
    for side in (half.graph.input, half.graph.output):
        assert [entry.type.tensor_type.elem_type for entry in side] == [TensorProto.FLOAT]
    assert half_elements(half) == {precision}
    assert [entry.name for entry in half.graph.output] == ["y"]


def test_fp16_computes_the_same_in_onnxruntime(tmp_path: Path) -> None:
    for model, feed in ((network(), graphs.image_feeds(1)[0]), (transformer(), token_feed())):
        expected, actual = run(model, feed, tmp_path)["y"], run(to_half(model, "FP16"), feed, tmp_path)["y"]
        assert actual.dtype == np.float32
        assert np.isfinite(actual).all()
        assert 0.99999 < cosine(expected, actual) < 1
        assert not np.array_equal(expected, actual)


def test_a_mask_of_the_lowest_float_stays_in_float32_up_to_its_softmax() -> None:
    half = to_half(transformer(), "FP16")
    typed = {entry.name: entry.type.tensor_type.elem_type for entry in half.graph.value_info}
    for name in ("bias", "masked", "p"):
        assert typed[name] == TensorProto.FLOAT
    for name in ("q", "kt", "s", "o", "f"):
        assert typed[name] == TensorProto.FLOAT16
    # BF16 has float32's range: only what comes from the mask alone stays
    typed = {entry.name: entry.type.tensor_type.elem_type for entry in to_half(transformer(), "BF16").graph.value_info}
    assert typed["bias"] == TensorProto.FLOAT
    assert typed["masked"] == TensorProto.BFLOAT16


def test_the_largest_floats_stay_finite_in_bf16() -> None:
    lowest = np.finfo(np.float32).min
    model = graph(
        [helper.make_node("Max", ["x", "low"], ["y"])],
        {"low": np.array([lowest, 1, np.inf, -np.inf], np.float32)},
        [X],
        [Y],
    )
    half = to_half(model, "BF16")
    array = numpy_helper.to_array(half.graph.initializer[0]).astype(np.float32)
    np.testing.assert_array_equal(np.isfinite(array), [True, True, False, False])
    assert array[0] == pytest.approx(lowest, rel=2**-8)


@pytest.mark.parametrize("constant", [1e6, -3.4e38, 1e-12])
def test_a_constant_that_fp16_cannot_hold_keeps_its_reader_in_float32(constant: float, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="product"),
        helper.make_node("Add", ["a", "c"], ["b"], name="reader"),
        helper.make_node("Sub", ["b", "c"], ["y"], name="next"),
    ]
    model = graph(nodes, {"w": weights(4, 4), "c": np.float32(constant)}, [X], [Y])
    half = check(to_half(model, "FP16"))
    constants = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert constants["c"] == TensorProto.FLOAT
    expected, actual = run(model, FEED, tmp_path)["y"], run(half, FEED, tmp_path)["y"]
    np.testing.assert_allclose(actual, expected, atol=max(2e-3, abs(constant) * 1e-6))


def test_infinity_is_no_overflow() -> None:
    nodes = [helper.make_node("Max", ["x", "low"], ["y"], name="cut")]
    model = graph(nodes, {"low": np.full((1, 4), -np.inf, np.float32)}, [X], [Y])
    assert to_half(model, "FP16").graph.initializer[0].data_type == TensorProto.FLOAT16


def test_nodes_that_are_named_stay_in_float32(tmp_path: Path) -> None:
    half = check(to_half(network(), "FP16", {"conv2", "fc"}))
    kept = {tensor.name for tensor in half.graph.initializer if tensor.data_type == TensorProto.FLOAT}
    assert kept == {"w2", "m"}
    feed = graphs.image_feeds(1)[0]
    assert cosine(run(network(), feed, tmp_path)["y"], run(half, feed, tmp_path)["y"]) > 0.99999


def test_a_name_that_the_graph_has_not_is_refused() -> None:
    with pytest.raises(EngineFailure, match="no node 'conv9'") as caught:
        to_half(network(), "FP16", {"conv9"})
    assert caught.value.reason is FailureReason.INVALID_SPEC
    with pytest.raises(EngineFailure, match="INT8 is no half precision"):
        to_half(network(), "INT8")


def test_what_computes_on_indices_alone_stays_in_float32(tmp_path: Path) -> None:
    """Positions beyond 2048 are no FP16 numbers, and the scales of Resize are float32 by its schema."""
    nodes = [
        helper.make_node("Range", ["from", "to", "by"], ["steps"], name="range"),
        helper.make_node("Cast", ["steps"], ["positions"], name="cast", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["positions", "frequency"], ["angles"], name="angle"),
        helper.make_node("Sin", ["angles"], ["waves"], name="sin"),
        helper.make_node("Add", ["x", "waves"], ["y"], name="add"),
    ]
    parameters = {"from": np.int64(4000), "to": np.int64(4004), "by": np.int64(1), "frequency": np.float32(0.37)}
    model = graph(nodes, parameters, [X], [Y])
    half = check(to_half(model, "FP16"))
    assert run(half, FEED, tmp_path)["y"] == pytest.approx(run(model, FEED, tmp_path)["y"], abs=4e-3)
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["image"], name="image"),
        helper.make_node("Resize", ["image", "", "scales"], ["y"], name="resize", mode="nearest"),
    ]
    arrays = {"shape": np.array([1, 1, 2, 2]), "scales": np.array([1, 1, 2, 2], np.float32)}
    model = graph(nodes, arrays, [X], [value("y", [1, 1, 4, 4])])
    half = check(to_half(model, "FP16"))
    assert {tensor.name: tensor.data_type for tensor in half.graph.initializer}["scales"] == TensorProto.FLOAT
    np.testing.assert_array_equal(run(half, FEED, tmp_path)["y"], run(model, FEED, tmp_path)["y"])


def test_an_operator_without_half_precision_stays_with_casts_around_it(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], name="relu"),
        helper.make_node("NonMaxSuppression", ["boxes", "scores", "most"], ["kept"], name="nms"),
        helper.make_node("Cast", ["kept"], ["numbers"], name="number", to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers"], ["total"], name="total", keepdims=0),
        helper.make_node("Add", ["r", "total"], ["y"], name="add"),
    ]
    parameters = {
        **{
            "boxes": np.array([[[0, 0, 1, 1], [0, 0, 3, 3]]], np.float32),
            "scores": np.array([[[0.9, 0.8]]], np.float32),
        },
        **{"most": np.int64(2)},
    }
    model = graph(nodes, parameters, [X], [Y])
    half = check(to_half(model, "FP16"))
    constants = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert constants["boxes"] == constants["scores"] == TensorProto.FLOAT
    np.testing.assert_allclose(run(half, FEED, tmp_path)["y"], run(model, FEED, tmp_path)["y"], rtol=1e-3)


def branches() -> onnx.ModelProto:
    """Return a graph whose If reads parameters and values of the graph around it; one node in it cannot be halved."""
    then = [
        helper.make_node("MatMul", ["h", "w"], ["t0"], name="in_then"),
        helper.make_node("Mul", ["t0", "huge"], ["t1"], name="grow"),
        helper.make_node("Div", ["t1", "huge"], ["t"], name="shrink"),
    ]
    otherwise = [helper.make_node("Add", ["h", "h"], ["e"], name="in_else")]
    nodes = [
        helper.make_node("Relu", ["x"], ["h"], name="before"),
        helper.make_node("ReduceSum", ["h"], ["s"], name="sum", keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"], name="compare"),
        helper.make_node(
            "If",
            ["c"],
            ["i"],
            name="choose",
            then_branch=helper.make_graph(then, "then", [], [value("t", [1, 4])]),
            else_branch=helper.make_graph(otherwise, "else", [], [value("e", [1, 4])]),
        ),
        helper.make_node("MatMul", ["i", "w"], ["y"], name="after"),
    ]
    return graph(nodes, {"w": weights(4, 4), "huge": np.float32(1e9), "zero": np.float32(0)}, [X], [Y])


def loop() -> onnx.ModelProto:
    """Return a graph that multiplies three times in a Loop, and gives what each turn gave."""
    body = [
        helper.make_node("MatMul", ["v", "w"], ["product"], name="turn"),
        helper.make_node("Tanh", ["product"], ["next"], name="bound"),
        helper.make_node("Identity", ["next"], ["seen"], name="note"),
        helper.make_node("Identity", ["go"], ["on"], name="go_on"),
    ]
    taken = [value("i", [], TensorProto.INT64), value("go", [], TensorProto.BOOL), value("v", [1, 4])]
    given_ = [value("on", [], TensorProto.BOOL), value("next", [1, 4]), value("seen", [1, 4])]
    nodes = [
        helper.make_node(
            "Loop", ["three", "", "x"], ["y", "all"], name="loop", body=helper.make_graph(body, "body", taken, given_)
        )
    ]
    outputs = [Y, value("all", [3, 1, 4])]
    return graph(nodes, {"w": weights(4, 4), "three": np.int64(3)}, [X], outputs)


@pytest.mark.parametrize("keep", [set(), {"choose"}, {"in_then"}, {"before"}, {"after"}, {"before", "choose", "after"}])
@pytest.mark.parametrize("sign", [1, -1])
def test_branches_are_halved_or_kept(keep: set[str], sign: int, tmp_path: Path) -> None:
    half = check(to_half(branches(), "FP16", keep))
    feed = {"x": sign * FEED["x"]}
    expected = run(branches(), feed, tmp_path)["y"]
    np.testing.assert_allclose(run(half, feed, tmp_path)["y"], expected, atol=5e-3)


@pytest.mark.parametrize("keep", [set(), {"loop"}, {"turn"}, {"note", "bound"}])
def test_loops_are_halved_or_kept(keep: set[str], tmp_path: Path) -> None:
    if keep == {"loop"}:
        with pytest.raises(EngineFailure, match="No node of the graph can compute in FP16"):
            to_half(loop(), "FP16", keep)
        return
    half = check(to_half(loop(), "FP16", keep))
    expected, actual = run(loop(), FEED, tmp_path), run(half, FEED, tmp_path)
    for name in ("y", "all"):
        np.testing.assert_allclose(actual[name], expected[name], atol=3e-3)


def test_quantized_nodes_stay_as_the_quantizer_left_them() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="before"),
        helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"], name="down"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="up"),
        helper.make_node("MatMul", ["d", "w"], ["b"], name="quantized"),
        helper.make_node("MatMul", ["b", "w2"], ["y"], name="after"),
    ]
    parameters = {"w": weights(4, 4), "w2": weights(4, 4, seed=1), "s": np.float32(0.1), "z": np.int8(0)}
    half = check(to_half(graph(nodes, parameters, [X], [Y]), "FP16"))
    constants = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert constants["s"] == constants["w"] == TensorProto.FLOAT
    assert constants["w2_fp16"] == constants["w_fp16"] == TensorProto.FLOAT16


def test_the_operator_set_is_raised_for_bf16_where_no_meaning_changes() -> None:
    assert to_half(network(), "BF16").opset_import[0].version == 22
    assert to_half(network(), "FP16").opset_import[0].version == 21
    images, grid = value("x", [1, 4, 2, 2]), value("grid", [1, 2, 2, 2])
    nodes = [
        helper.make_node("GridSample", ["x", "grid"], ["n"], name="sample"),  # its modes were renamed in set 20
        helper.make_node("Relu", ["n"], ["y"], name="relu"),
    ]
    model = graph(nodes, {}, [images, grid], [value("y", [1, 4, 2, 2])], opset=18)
    assert to_half(model, "BF16").opset_import[0].version == 18


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["Relu", "MatMul", "Sigmoid", "Add", "Softmax"]), min_size=1, max_size=6), st.data())
def test_any_chain_with_any_nodes_kept_computes_the_same(chain: list[str], data: Any) -> None:
    import onnxruntime

    second = {"MatMul": ["w"], "Add": ["b"]}
    nodes = [
        helper.make_node(op, [f"v{i}", *second.get(op, [])], [f"v{i + 1}"], name=f"n{i}") for i, op in enumerate(chain)
    ]
    nodes.append(helper.make_node("Identity", [f"v{len(chain)}"], ["y"], name="last"))
    model = graph(nodes, {"w": weights(4, 4), "b": np.arange(4, dtype=np.float32)}, [value("v0", [1, 4])], [Y])
    keep = data.draw(st.sets(st.sampled_from([node.name for node in nodes[:-1]])))
    half = check(to_half(model, "FP16", keep))
    sessions = [onnxruntime.InferenceSession(made.SerializeToString()) for made in (model, half)]
    results = [session.run(None, {"v0": FEED["x"]})[0] for session in sessions]
    np.testing.assert_allclose(results[1], results[0], atol=2e-2)


@pytest.mark.parametrize("precision", ["FP16", "BF16"])
def test_openvino_computes_what_the_graph_says(precision: str, tmp_path: Path) -> None:
    model = graph([helper.make_node("MatMul", ["x", "w"], ["y"], name="product")], {"w": weights(4, 4)}, [X], [Y])
    save_model(to_half(model, precision), tmp_path / "half.onnx")
    form = build("openvino", BuildSource.of_file(tmp_path / "half.onnx", OPENVINO), tmp_path / "out", "FP32")
    actual = open_form(form, 1).run(FEED)["y"]
    expected = run(model, FEED, tmp_path)["y"]
    np.testing.assert_allclose(actual, expected, atol={"FP16": 4e-3, "BF16": 4e-2}[precision])
    assert not np.array_equal(actual, expected)
