"""Every runtime through the same tests: build, open, run, refuse."""

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.runtimes import BuildSource, module_of, open_form, runtime, runtimes
from engines.runtimes.host import usual_layers
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.runtimes.protocol import Layer
from engines.runtimes.refusals import crashed
from engines.runtimes.serving import serving
from engines.spec.devices import load_catalog
from engines.spec.toolchain import cpu
from engines.tensors.signature import Signature
from tests.unit.runtimes import graphs
from tests.unit.runtimes.building import build

NAMES = ["onnxruntime", "openvino"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 3, 8])
def test_a_form_computes_the_graph_at_any_batch(name: str, batch: int, tmp_path: Path) -> None:
    source, weights = graphs.linear(tmp_path / "g.onnx")
    form = build(name, BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "out", "FP32")
    x = np.random.default_rng(1).standard_normal((batch, 4)).astype(np.float32)
    session = open_form(form, threads=1)
    first = session.run({"x": x})
    session.run({"x": -x})
    expected = np.maximum(x @ weights, 0)
    assert list(first) == ["y", "index"]
    np.testing.assert_allclose(first["y"], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(first["index"], expected.argmax(axis=1))
    assert first["index"].dtype == np.int64
    assert all((tmp_path / "out" / path).is_file() for path in form.files)


@pytest.mark.parametrize("name", NAMES)
def test_equal_graphs_give_equal_bytes(name: str, tmp_path: Path) -> None:
    digests = []
    for directory in ("a", "b/c"):
        (tmp_path / directory).mkdir(parents=True)
        source, _ = graphs.linear(tmp_path / directory / "g.onnx")
        form = build(name, BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / directory / "out", "FP32")
        digests.append([hashlib.sha256((form.directory / path).read_bytes()).hexdigest() for path in form.files])
    assert digests[0] == digests[1]


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_operator_is_named_with_its_node(name: str, tmp_path: Path) -> None:
    source = graphs.unknown_operator(tmp_path / "g.onnx")
    with pytest.raises(EngineFailure) as caught:
        open_form(build(name, BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "out", "FP32"), 1)
    assert caught.value.reason is FailureReason.UNSUPPORTED_OPERATOR
    assert (caught.value.node, caught.value.operator) == ("strange", "com.acme.Bogus")


def test_an_operator_without_a_kernel_for_its_type_is_named(tmp_path: Path) -> None:
    source = graphs.missing_kernel(tmp_path / "g.onnx")
    with pytest.raises(EngineFailure) as caught:
        OnnxRuntimeSession(source, 1, optimise=False)
    assert caught.value.reason is FailureReason.UNSUPPORTED_OPERATOR
    assert (caught.value.node, caught.value.operator) == ("odd", "BitShift")


def test_a_precision_that_is_not_offered_says_who_offers_what(tmp_path: Path) -> None:
    source, _ = graphs.linear(tmp_path / "g.onnx")
    with pytest.raises(EngineFailure, match="cannot compute in BF16") as caught:
        build("onnxruntime", BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "out", "BF16")
    assert caught.value.reason is FailureReason.UNSUPPORTED_PRECISION
    assert "BF16 on" in caught.value.suggested_fix


def test_openvino_computes_in_the_precision_that_it_was_told(tmp_path: Path) -> None:
    source, weights = graphs.linear(tmp_path / "g.onnx")
    x = np.random.default_rng(1).standard_normal((8, 4)).astype(np.float32)
    errors = {}
    for precision in ("FP32", "BF16") if "avx512_bf16" in cpu()[1] else ("FP32",):
        form = build("openvino", BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / precision, precision)
        assert form.options["INFERENCE_PRECISION_HINT"] == {"FP32": "f32", "BF16": "bf16"}[precision]
        result = open_form(form, 1).run({"x": x})
        errors[precision] = np.abs(result["y"] - np.maximum(x @ weights, 0)).max()
    assert errors["FP32"] < 1e-5
    assert errors.get("BF16", 1e-2) > 1e-4


def test_external_data_travels_with_the_graph(tmp_path: Path) -> None:
    source, weights = graphs.linear(tmp_path / "g.onnx")
    onnx.save(onnx.load(source), source, save_as_external_data=True, location="w.bin", size_threshold=0)
    form = build("onnxruntime", BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "out", "FP32")
    assert form.files == ("model.onnx", "w.bin")
    (tmp_path / "w.bin").unlink()
    x = np.ones((1, 4), np.float32)
    np.testing.assert_allclose(open_form(form, 1).run({"x": x})["y"], np.maximum(x @ weights, 0), rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_input_is_a_failure_and_not_a_crash(name: str, tmp_path: Path) -> None:
    source, _ = graphs.linear(tmp_path / "g.onnx")
    session = open_form(build(name, BuildSource.of_file(source, graphs.SIGNATURE), tmp_path / "out", "FP32"), 1)
    with pytest.raises(EngineFailure) as caught:
        session.run({"x": np.zeros((1, 5), np.float32)})
    assert caught.value.reason is FailureReason.TOOLCHAIN_CRASHED


def test_a_file_that_is_no_graph_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "g.onnx").write_bytes(b"\x00\x01nonsense")
    with pytest.raises(EngineFailure):
        build("openvino", BuildSource.of_file(tmp_path / "g.onnx", Signature((), ())), tmp_path / "out", "FP32")
    with pytest.raises(EngineFailure):
        OnnxRuntimeSession(tmp_path / "g.onnx", 1, optimise=True)


def test_an_unknown_runtime_lists_the_known_ones() -> None:
    with pytest.raises(EngineFailure, match=r"there are .*inductor, .*onnxruntime, .*openvino") as caught:
        runtime("abacus")
    assert caught.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE


def test_the_catalog_points_at_runtimes_that_exist() -> None:
    for device in load_catalog().devices.values():
        for entry in device.buildable_runtimes.values():
            room = runtimes()[entry.name]
            assert type(room).__module__ == module_of(entry.name, "runtime")
            assert room.packages == serving(entry.name).packages


def test_asking_what_is_available_imports_no_framework() -> None:
    code = (
        "import sys; from engines.runtimes import runtime; runtime('openvino'); runtime('onnxruntime');"
        "sys.exit(any(name in sys.modules for name in ('onnx', 'onnxruntime', 'openvino', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 8589934592", "OUT_OF_MEMORY"),
        ("Non-zero status code returned while running Expand", "TOOLCHAIN_CRASHED"),
    ],
)
def test_a_runtime_that_has_no_memory_says_so(words: str, reason: str) -> None:
    failure = crashed("ONNX Runtime", "run the graph", RuntimeError(words))
    assert failure.reason.value == reason
    assert failure.suggested_fix
    assert words in failure.evidence


def test_the_time_of_a_layer_is_the_median_of_calls_and_the_sum_within_one() -> None:
    calls = [[Layer("a", "Conv", ms), Layer("loop", "Add", 1.0), Layer("loop", "Add", 2.0)] for ms in (1.0, 90.0, 2.0)]
    assert usual_layers(calls) == [Layer("a", "Conv", 2.0), Layer("loop", "Add", 3.0)]
    assert usual_layers([]) == []
