"""Forms for ARM in the emulator, by the opener that packages carry; and what is said without one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.runtimes import BuildOptions, BuildSource, Where, open_form, runtime
from engines.runtimes.emulator import Emulator, emulator_of
from engines.sandbox.environment import ARM_EMULATOR as SETTING
from engines.spec.devices import load_catalog
from engines.tensors import Array
from engines.tensors.signature import Signature, TensorSpec
from tests.unit.runtimes import graphs

ARM = load_catalog().device("cpu-arm64")


@pytest.fixture
def same_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set up this processor's own Python in place of an emulator: what is said to it is the same."""
    folder = tmp_path / "emulator"
    folder.mkdir()
    (folder / "VERSION").write_text("this Python\n", encoding="utf-8")
    (folder / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n', encoding="utf-8")
    (folder / "python").chmod(0o755)
    monkeypatch.setenv(SETTING, str(folder))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return folder


def test_a_form_runs_by_the_opener_alone(same_processor: Path, tmp_path: Path) -> None:
    room = runtime("onnxruntime")
    assert room.where(ARM) is Where.EMULATOR
    assert room.runs_on(ARM) == room.environment(ARM)["emulator"] == "this Python"
    path, weights = graphs.linear(tmp_path / "g.onnx")
    form = room.build(BuildSource.of_file(path, graphs.SIGNATURE), ARM, BuildOptions("FP32"), tmp_path / "form")
    with open_form(form, 1) as session:
        for batch in (1, 3):
            x = np.ones((batch, 4), np.float32)
            np.testing.assert_allclose(session.run({"x": x})["y"], np.maximum(x @ weights, 0), rtol=1e-5)
        with pytest.raises(EngineFailure, match="ONNX Runtime failed to run the model"):
            session.run({"x": np.ones((1, 3), np.float32)})
        assert session.run({"x": np.zeros((2, 4), np.float32)})["y"].shape[0] == 2, "it lives on"


def test_what_the_opener_raises_is_the_runtimes_failure(same_processor: Path, tmp_path: Path) -> None:
    path, _ = graphs.linear(tmp_path / "g.onnx")
    form = runtime("onnxruntime").build(
        BuildSource.of_file(path, graphs.SIGNATURE), ARM, BuildOptions("FP32"), tmp_path / "form"
    )
    form.entry.write_bytes(b"no graph")
    with pytest.raises(EngineFailure, match="ONNX Runtime failed to load the graph: InvalidProtobuf") as caught:
        open_form(form, 1)
    assert caught.value.reason is FailureReason.TOOLCHAIN_CRASHED


def test_an_emulator_that_ends_says_why(same_processor: Path) -> None:
    (same_processor / "python").write_text("#!/bin/sh\necho no such processor >&2\nexit 3\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="the emulator ended: no such processor"):
        Emulator(same_processor).open("onnxruntime.opener", "absent", {}, 1)


def test_an_emulator_that_goes_on_without_an_output_is_ended(
    same_processor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engines.runtimes.emulator._END_SECONDS", 0.1)
    (same_processor / "python").write_text("#!/bin/sh\necho lost >&2\nexec sleep 60 >&-\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="the emulator ended: lost"):
        Emulator(same_processor).open("onnxruntime.opener", "absent", {}, 1)


def test_there_is_no_emulator_of_other_processors_nor_in_an_empty_folder(
    same_processor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert emulator_of("aarch64") == Emulator(same_processor)
    assert emulator_of("riscv64") is None
    monkeypatch.setenv(SETTING, str(tmp_path))
    assert emulator_of("aarch64") is None
    assert runtime("onnxruntime").where(ARM) is Where.DEVICE


@pytest.mark.emulator
@pytest.mark.skipif(not os.environ.get(SETTING), reason=f"{SETTING} names no emulator of ARM")
@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_arm_computes_what_the_graph_says(tmp_path: Path, precision: str) -> None:
    path, weights = graphs.linear(tmp_path / "g.onnx")
    form = runtime("onnxruntime").build(
        BuildSource.of_file(path, graphs.SIGNATURE), ARM, BuildOptions(precision), tmp_path / "form"
    )
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    with open_form(form, 1) as session:
        np.testing.assert_allclose(session.run({"x": x})["y"], np.maximum(x @ weights, 0), atol=1e-2)


@pytest.mark.emulator
@pytest.mark.skipif(not os.environ.get(SETTING), reason=f"{SETTING} names no emulator of ARM")
def test_arm_computes_integers_of_both_runtimes(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 64)).astype(np.float32)
    weights = np.random.default_rng(1).normal(size=(64, 16)).astype(np.float32)
    expected = x @ weights
    signature = Signature((TensorSpec.fixed("x", "float32", x.shape),), (TensorSpec.unknown("y", "float32"),))
    for name, path in (("onnxruntime", _qdq(tmp_path, x, weights)), ("litert", _tflite(tmp_path, x, weights))):
        source = BuildSource.of_file(path, signature)
        form = runtime(name).build(source, ARM, BuildOptions("INT8"), tmp_path / name)
        with open_form(form, 1) as session:
            found = session.run({"x": x})["y"]
        assert 0 < np.abs(found - expected).max() < 0.02 * np.abs(expected).max(), name


def _qdq(folder: Path, x: Array, weights: Array) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter([{"x": x}])

        def get_next(self) -> dict[str, Array] | None:
            return next(self._feeds, None)

    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [4, 64]), ("y", [4, 16]))
    ]
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        *("g", ends[:1], ends[1:], [numpy_helper.from_array(weights, "w")]),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "float.onnx")
    quantize_static(
        folder / "float.onnx", folder / "qdq.onnx", Reader(), quant_format=QuantFormat.QDQ, per_channel=True
    )
    return folder / "qdq.onnx"


def _tflite(folder: Path, x: Array, weights: Array) -> Path:
    from engines.formats.tensorflow.tools import import_tensorflow
    from engines.runtimes.litert.tensorflow_converter import converted, full_integer
    from engines.runtimes.source import Function

    tf = import_tensorflow()
    constant = tf.constant(weights)
    signature = Signature((TensorSpec.fixed("x", "float32", x.shape),), (TensorSpec.unknown("y", "float32"),))
    function = Function(lambda arguments: [arguments[0] @ constant], tf.Module(), ["float32"])
    content = converted(BuildSource(signature, function=function), full_integer([{"x": x}], per_channel=True))
    (folder / "model.tflite").write_bytes(content)
    return folder / "model.tflite"
