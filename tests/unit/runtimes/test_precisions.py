"""What each runtime makes of FP16, INT8 and INT4: as the graph says it, and nothing behind anyone's back."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from engines.failures import EngineFailure, FailureReason
from engines.graph.precision import half_elements
from engines.runtimes import BuildSource, open_form
from tests.unit.runtimes import graphs
from tests.unit.runtimes.building import build

NAMES = ["onnxruntime", "openvino"]
EXACT = "session.x64quantprecision"
X = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)


def quantized(path: Path) -> tuple[Path, Any]:
    """Write y = relu(round(x) @ round(w)), rounded by QDQ nodes; return the file and what it computes for X."""
    weights = np.random.default_rng(0).integers(-127, 128, (4, 3)).astype(np.int8)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "z"], ["wd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["product"], name="multiply"),
        helper.make_node("Relu", ["product"], ["y"], name="cut"),
        helper.make_node("ArgMax", ["y"], ["index"], name="best", axis=1, keepdims=0),
    ]
    outputs = [
        helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 3]),
        helper.make_tensor_value_info("index", onnx.TensorProto.INT64, ["batch"]),
    ]
    values = {"w": weights, "s": np.float32(0.02), "ws": np.float32(0.01), "z": np.int8(0)}
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]
    rounded = np.clip(np.rint(X / np.float32(0.02)), -128, 127) * np.float32(0.02)
    expected = np.maximum(rounded @ (weights.astype(np.float32) * np.float32(0.01)), 0)
    return graphs.save(path, nodes, outputs, initializers=initializers), expected


@pytest.mark.parametrize("name", NAMES)
def test_a_quantized_graph_is_computed_as_it_says(name: str, tmp_path: Path) -> None:
    source, expected = quantized(tmp_path / "g.onnx")
    form = build(name, BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "out", "INT8")
    assert form.precision == "INT8"
    np.testing.assert_allclose(open_form(form, 1).run({"x": X})["y"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", ["INT8", "INT4"])
def test_a_graph_in_floating_point_is_not_called_quantized(name: str, precision: str, tmp_path: Path) -> None:
    source, _ = graphs.linear(tmp_path / "g.onnx")
    with pytest.raises(EngineFailure, match=f"cannot be built in {precision}") as caught:
        build(name, BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "out", precision)
    assert caught.value.reason is FailureReason.UNSUPPORTED_PRECISION
    assert "quantization task" in caught.value.suggested_fix


@pytest.mark.parametrize("name", NAMES)
def test_fp16_halves_the_weights_and_computes_in_float32(name: str, tmp_path: Path) -> None:
    source, weights = graphs.linear(tmp_path / "g.onnx")
    form = build(name, BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "out", "FP16")
    result = open_form(form, 1).run({"x": X})
    assert result["y"].dtype == np.float32
    expected = np.maximum(X @ weights.astype(np.float16).astype(np.float32), 0)
    np.testing.assert_allclose(result["y"], expected, atol=4e-3)
    if name == "onnxruntime":
        assert half_elements(onnx.load(form.entry)) == {"FP16"}
    else:
        import openvino

        operations = openvino.Core().read_model(str(form.entry)).get_ordered_ops()
        types = [operation.get_output_element_type(0).get_type_name() for operation in operations]
        assert "f16" in types
        assert form.options["INFERENCE_PRECISION_HINT"] == "f32"


def test_an_ir_is_built_again_as_it_is(tmp_path: Path) -> None:
    source, expected = quantized(tmp_path / "g.onnx")
    first = build("openvino", BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "first", "INT8")
    second = build("openvino", BuildSource.of_file(first.entry, graphs.SIGNATURE), tmp_path / "second", "INT8")
    assert (first.directory / "model.bin").read_bytes() == (second.directory / "model.bin").read_bytes()
    np.testing.assert_allclose(open_form(second, 1).run({"x": X})["y"], expected, rtol=1e-5, atol=1e-5)


def test_an_ir_in_floating_point_is_not_called_quantized(tmp_path: Path) -> None:
    source, _ = graphs.linear(tmp_path / "g.onnx")
    form = build("openvino", BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "first", "FP32")
    with pytest.raises(EngineFailure, match="cannot be built in INT8"):
        build("openvino", BuildSource.of_file(form.entry, graphs.SIGNATURE), tmp_path / "second", "INT8")


def test_nothing_is_quantized_at_run_time_unless_the_ir_says_so(tmp_path: Path) -> None:
    source, _ = graphs.linear(tmp_path / "g.onnx")
    for precision in ("FP32", "FP16"):
        form = build("openvino", BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / precision, precision)
        assert form.options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] == "0"


@pytest.mark.parametrize("saturating", [True, False])
def test_only_processors_whose_sums_overflow_are_told_to_compute_exactly(
    saturating: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.runtimes.onnxruntime.opener.products_saturate", lambda: saturating)
    path, expected = quantized(tmp_path / "g.onnx")
    form = build("onnxruntime", BuildSource.of_file(path, graphs.SIGNATURE), tmp_path / "out", "INT8")
    assert form.options[EXACT] == "1"
    told: list[str] = []
    monkeypatch.setattr(
        onnxruntime.SessionOptions, "add_session_config_entry", lambda _options, key, _value: told.append(key)
    )
    np.testing.assert_allclose(open_form(form, 1).run({"x": X})["y"], expected, rtol=1e-5)
    assert told == ([EXACT] if saturating else [])
