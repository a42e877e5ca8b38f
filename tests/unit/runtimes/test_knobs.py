"""Knobs of the runtimes that build from graphs: the same values, whatever is set; what no runtime has is refused."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.failures import EngineFailure, FailureReason
from engines.runtimes import BuildSource, open_form
from engines.runtimes.knobs import Knob, check_knobs
from tests.unit.runtimes import graphs
from tests.unit.runtimes.building import build

SETTINGS: list[tuple[str, dict[str, str]]] = [
    ("onnxruntime", {"spinning": "off", "threads": "1"}),
    ("onnxruntime", {"binding": "bound"}),
    ("onnxruntime", {"streams": "2"}),
    ("openvino", {"streams": "2"}),
    ("openvino", {"threads": "1"}),
]


@pytest.mark.parametrize(("runtime", "knobs"), SETTINGS, ids=str)
def test_knobs_change_no_value(runtime: str, knobs: dict[str, str], tmp_path: Path) -> None:
    source, weights = graphs.linear(tmp_path / "g.onnx")
    form = build(runtime, BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "out", "FP32", knobs)
    session = open_form(form, 2)
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.standard_normal((batch, 4)).astype(np.float32)} for batch in (1, 3, 3, 3, 8, 1)]
    kept = [session.run(feed) for feed in feeds]  # later calls must not write into what earlier ones gave
    for found in (kept, session.run_many(feeds)):
        for feed, values in zip(feeds, found, strict=True):
            np.testing.assert_allclose(values["y"], np.maximum(feed["x"] @ weights, 0), rtol=1e-5, atol=1e-6)
    assert session.requests == int(knobs.get("streams", "1"))


@pytest.mark.parametrize(("runtime", "knobs"), SETTINGS, ids=str)
def test_a_closed_session_leaves_no_thread_and_runs_nothing(
    runtime: str, knobs: dict[str, str], tmp_path: Path
) -> None:
    source, _ = graphs.linear(tmp_path / "g.onnx")
    form = build(runtime, BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "out", "FP32", knobs)
    before, feed = threading.active_count(), {"x": np.ones((1, 4), np.float32)}
    with open_form(form, 2) as session:
        session.run_many([feed] * 4)
    session.close()  # once more does no harm
    assert threading.active_count() <= before  # one of another test may have ended meanwhile
    with pytest.raises(EngineFailure):
        session.run(feed)


def test_bound_tensors_refuse_what_does_not_fit(tmp_path: Path) -> None:
    source, _ = graphs.linear(tmp_path / "g.onnx")
    form = build(
        "onnxruntime", BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "out", "FP32", {"binding": "bound"}
    )
    session = open_form(form, 1)
    session.run({"x": np.ones((2, 4), np.float32)})
    for wrong in (np.ones((2, 4)), np.ones((2, 5), np.float32)):
        with pytest.raises(EngineFailure) as caught:
            session.run({"x": wrong})
        assert caught.value.reason is FailureReason.TOOLCHAIN_CRASHED


def test_a_failed_call_on_streams_is_a_failure_and_the_next_one_works(tmp_path: Path) -> None:
    source, weights = graphs.linear(tmp_path / "g.onnx")
    form = build("openvino", BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "out", "FP32", {"streams": "2"})
    session = open_form(form, 2)
    with pytest.raises(EngineFailure):
        session.run_many([{"x": np.ones((2, 5), np.float32)}])
    x = np.ones((2, 4), np.float32)
    np.testing.assert_allclose(session.run_many([{"x": x}])[0]["y"], np.maximum(x @ weights, 0), rtol=1e-5)


@pytest.mark.parametrize(
    ("runtime", "weights_knob"), [("openvino", "int8"), ("onnxruntime", "int8"), ("onnxruntime", "int8_default")]
)
def test_weights_in_eight_bits_need_no_calibration(runtime: str, weights_knob: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((256, 64)).astype(np.float32)
    # As the head of a language model takes the transposed embedding.
    nodes = [helper.make_node("Transpose", ["wt"], ["w"]), helper.make_node("MatMul", ["x", "w"], ["y"])]
    widths = {"x": 256, "y": 64}
    given, result = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", widths[name]]) for name in "xy")
    made = helper.make_graph(nodes, "g", [given], [result], [numpy_helper.from_array(weights.T.copy(), "wt")])
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "g.onnx")
    source = BuildSource.of_file(tmp_path / "g.onnx", graphs.SIGNATURE)
    plain = build(runtime, source, tmp_path / "plain", "FP32")
    form = build(runtime, source, tmp_path / "out", "INT8", {"weights": weights_knob})
    assert form.size_bytes * 2.5 < plain.size_bytes
    x = rng.standard_normal((4, 256)).astype(np.float32)
    only = dataclasses.replace(form, outputs=("y",))
    session = open_form(only, 1)
    found, expected = session.run({"x": x})["y"], x @ weights
    cosine = float((found * expected).sum() / np.linalg.norm(found) / np.linalg.norm(expected))
    assert 0.999 < cosine < 1.0


@pytest.mark.parametrize(
    ("runtime", "knobs", "words"),
    [
        (
            "onnxruntime",
            {"stream": "2"},
            "has no knob 'stream'; it has binding, graph, spinning, streams, threads, weights",
        ),
        ("onnxruntime", {"spinning": "maybe"}, "'spinning' takes off, not 'maybe'"),
        ("openvino", {"streams": "0"}, "takes a whole number above 0"),
        ("openvino", {"binding": "bound"}, "OpenVINO has no knob 'binding'"),
        ("torchscript", {"streams": "2"}, "TorchScript has no knob 'streams'"),
        ("inductor", {"mode": "eager"}, "TorchInductor has no knob 'mode'"),
    ],
)
def test_a_knob_that_a_runtime_does_not_have_is_refused(
    runtime: str, knobs: dict[str, str], words: str, tmp_path: Path
) -> None:
    source = BuildSource.of_file(graphs.linear(tmp_path / "g.onnx")[0], graphs.SIGNATURE)
    with pytest.raises(EngineFailure, match=words) as caught:
        build(runtime, source, tmp_path / "out", "FP32", knobs)
    assert caught.value.reason is FailureReason.INVALID_SPEC


def test_a_knob_of_free_text_says_itself_what_is_wrong_with_it() -> None:
    knob = Knob("gears", "batches", objection=lambda value: "" if value == "1,2" else "write it like 1,2")
    check_knobs("A runtime", {"gears": "1,2"}, [knob])
    with pytest.raises(EngineFailure, match="knob 'gears' cannot be '1;2': write it like 1,2"):
        check_knobs("A runtime", {"gears": "1;2"}, [knob])
    assert knob.in_words("1,2") == "gears 1,2"


def test_a_graph_without_attention_is_not_fused(tmp_path: Path) -> None:
    source = BuildSource.of_file(graphs.linear(tmp_path / "g.onnx")[0], graphs.SIGNATURE)
    with pytest.raises(EngineFailure, match="finds no attention") as caught:
        build("onnxruntime", source, tmp_path / "out", "FP32", {"graph": "transformer"})
    assert caught.value.reason is FailureReason.UNSUPPORTED_OPERATOR


def test_recurrent_networks_have_their_products_in_integers_too(tmp_path: Path) -> None:
    rng, hidden, width = np.random.default_rng(0), 16, 8
    weights = {"w": (1, 4 * hidden, width), "r": (1, 4 * hidden, hidden)}
    values = {name: (rng.standard_normal(shape) / 4).astype(np.float32) for name, shape in weights.items()}
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=hidden)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [5, "batch", width])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [5, 1, "batch", hidden])
    tensors = [numpy_helper.from_array(value, name) for name, value in values.items()]
    made = helper.make_graph([node], "g", [given], [result], tensors)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "g.onnx")
    source = BuildSource.of_file(tmp_path / "g.onnx", graphs.SIGNATURE)
    x = rng.standard_normal((5, 2, width)).astype(np.float32)
    expected = open_form(build("onnxruntime", source, tmp_path / "plain", "FP32"), 1).run({"x": x})["y"]
    form = build("onnxruntime", source, tmp_path / "out", "INT8", {"weights": "int8"})
    assert [node.op_type for node in onnx.load(form.entry).graph.node] == ["DynamicQuantizeLSTM"]
    np.testing.assert_allclose(open_form(form, 1).run({"x": x})["y"], expected, atol=0.02)


@pytest.mark.parametrize(
    ("runtime", "knobs"), [("onnxruntime", {"binding": "bound"}), ("onnxruntime", {}), ("openvino", {})], ids=str
)
def test_copying_and_computing_are_timed_apart(runtime: str, knobs: dict[str, str], tmp_path: Path) -> None:
    source = BuildSource.of_file(graphs.linear(tmp_path / "g.onnx")[0], graphs.SIGNATURE)
    feed = {"x": np.ones((3, 4), np.float32)}
    with open_form(build(runtime, source, tmp_path / "out", "FP32", knobs), 1) as session:
        outputs, times = session.timed(feed)
        np.testing.assert_array_equal(outputs["y"], session.run(feed)["y"])
    assert times.compute > 0
    assert (times.host_to_device > 0, times.device_to_host > 0) == (bool(knobs), bool(knobs))


def test_the_quantizers_defaults_take_convolutions_too_and_refuse_a_graph_without_weights(tmp_path: Path) -> None:
    def saved(node: onnx.NodeProto, *weights: onnx.TensorProto) -> BuildSource:
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3, 8, 8]) for name in "xy"]
        made = helper.make_graph([node], "g", ends[:1], ends[1:], list(weights))
        opset = [helper.make_opsetid("", 18)]
        onnx.save(helper.make_model(made, opset_imports=opset, ir_version=10), tmp_path / "g.onnx")
        return BuildSource.of_file(tmp_path / "g.onnx", graphs.SIGNATURE)

    weight = numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")
    source, knobs = saved(helper.make_node("Conv", ["x", "w"], ["y"]), weight), {"weights": "int8_default"}
    form = build("onnxruntime", source, tmp_path / "out", "INT8", knobs)
    assert "ConvInteger" in {node.op_type for node in onnx.load(form.entry).graph.node}
    with pytest.raises(EngineFailure, match="no operator with a weight"):
        build("onnxruntime", saved(helper.make_node("Relu", ["x"], ["y"])), tmp_path / "none", "INT8", knobs)
