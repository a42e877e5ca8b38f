"""Verdicts by cosine, and causes of slowness, on made-up figures and a tiny graph."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from engines.graph.interface import signature_of
from engines.parity.comparison import OutputComparison
from engines.parity.report import Verdict
from engines.quantization.no_gain import no_gain_reason
from engines.runtimes import BuildOptions, BuildSource, runtime
from engines.runtimes.host import HostRuntime
from engines.runtimes.protocol import BuiltForm
from engines.spec.devices import load_catalog
from engines.spec.tolerances import TOLERANCES
from engines.timing.paired import Latency, ProfileReport
from tests.unit.quantization import graphs


def latency(name: str, speedup: float, spread: float = 0.0) -> Latency:
    return Latency(name, 1.0 / speedup, 1.0, 1.0, speedup, speedup - spread, speedup + spread)


def report(control_spread: float, **speedups: float) -> ProfileReport:
    forms = tuple(latency(name, speedup) for name, speedup in speedups.items())
    return ProfileReport((latency("source", 1.0), *forms), latency("source", 1.0, control_spread), 9, 1, 1, "cpu")


@pytest.mark.parametrize(
    ("angle", "verdict"), [(0.03, Verdict.PASS), (0.1, Verdict.WARN), (0.2, Verdict.FAIL)], ids=["pass", "warn", "fail"]
)
def test_a_verdict_by_cosine_fails_below_099(angle: float, verdict: Verdict) -> None:
    comparison = OutputComparison("y")
    comparison.add(np.array([1.0, 0.0]), np.array([np.cos(angle), np.sin(angle)]))
    found = comparison.result(TOLERANCES["INT8"])
    assert found.verdict is verdict
    assert found.cosine == pytest.approx(np.cos(angle))
    assert comparison.result(TOLERANCES["FP32"]).verdict is Verdict.FAIL


@pytest.mark.parametrize(("flipped", "verdict"), [(0, Verdict.PASS), (2, Verdict.WARN), (20, Verdict.FAIL)])
def test_classes_may_flip_a_little(flipped: int, verdict: Verdict) -> None:
    comparison = OutputComparison("best")
    source = np.arange(100) % 7 + 1
    target = source.copy()
    target[:flipped] += 1
    comparison.add(source, target)
    assert comparison.result(TOLERANCES["INT8"]).verdict is verdict


def test_the_cause_is_read_from_the_run(tmp_path: Path) -> None:
    f = onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]),
    ]
    constants = [
        helper.make_tensor("s", f, [], [0.1]),
        helper.make_tensor("z", onnx.TensorProto.UINT8, [], [128]),
    ]
    values = [helper.make_tensor_value_info(name, f, [1, 4096]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), tmp_path / "m.onnx")
    built = BuiltForm("onnxruntime", "cpu-x86-64", "INT8", tmp_path, ("m.onnx",), ("y",))
    feed = {"x": np.zeros((1, 4096), np.float32)}
    layers = runtime(built.runtime).layers(built, feed, 1)
    assert [layer.operator for layer in layers] == ["QuantizeLinear", "DequantizeLinear"]
    words = no_gain_reason(built, feed, report(0.05, q=0.5), "INT8")
    assert words.startswith("2.00x slower than source. Likely cause: ")
    assert "bringing values to integers and back" in words
    stored = no_gain_reason(
        BuiltForm("o", "d", "FP16", tmp_path, ("m.onnx",), ("y",)), feed, report(0.05, q=1.0), "FP32"
    )
    assert "FP16 is how values are stored; the runtime computes them in FP32" in stored


def test_each_runtime_profiles_its_own_forms(tmp_path: Path) -> None:
    room, device = runtime("openvino"), load_catalog().device("cpu-x86-64")
    onnx.save(graphs.network(), tmp_path / "m.onnx")
    source = BuildSource.of_file(tmp_path / "m.onnx", signature_of(graphs.network()))
    built = room.build(source, device, BuildOptions("FP32"), tmp_path / "built")
    layers = room.layers(built, graphs.image_feeds(1)[0], 1)
    assert any(layer.operator == "Conv" and layer.milliseconds > 0 and layer.kernel for layer in layers)
    assert HostRuntime().layers(built, {}, 1) == []
