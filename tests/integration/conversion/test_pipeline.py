"""Real small networks through the whole pipeline, in this process, for both runtimes."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from lathe.internal.v1.conversion_pb2 import ConversionOutcome
from lathe.type.v1.measurement_pb2 import SAMPLE_SOURCE_GENERATED, Verdict

from engines.failures import EngineFailure, FailureReason
from engines.formats.torch_export import module_source
from engines.package.manifest import read_manifest
from engines.spec.toolchain import cpu
from services.platform.words import from_values
from tests.integration.conversion.workbench import CNN, DEEP, NAN, TIED, TWO_INPUTS, Bench, image

RUNTIMES = ["onnxruntime", "openvino"]
needs_bf16 = pytest.mark.skipif("avx512_bf16" not in cpu()[1], reason="this CPU has no bfloat16 arithmetic")


def failure(bench: Bench, request: dict[str, Any]) -> EngineFailure:
    with pytest.raises(EngineFailure) as caught:
        bench.convert(request)
    return caught.value


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_network_becomes_a_verified_package(runtime: str, bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    bench.put_network(CNN)
    args = {"top": {"si": "5"}, "sizes": {"vi": {"values": ["1", "2"]}}, "names": {"vs": {"values": ["a"]}}}
    request = bench.request(runtime=runtime, args=args, runtime_options={"threads": "1"})
    outcome = bench.convert(request)
    message = from_values(outcome, ConversionOutcome())
    (component,) = message.components
    assert component.parity.verdict == Verdict.VERDICT_PASS
    assert list(component.parity.batch_sizes) == [1, 2, 4]
    assert component.parity.outputs[0].top1_agreement == 1.0
    assert component.parity.sample_source == SAMPLE_SOURCE_GENERATED
    assert list(component.parity.sample_values) == ["noise", "images"]
    assert [form.form for form in component.profile.forms] == ["torchscript", runtime]
    assert message.architecture_digests == {"architectures/net": "ab" * 32}
    assert {file.path for file in message.files} >= {
        "manifest.json",
        "report.json",
        "infer.py",
        "README.md",
        "sbom.cdx.json",
    }
    assert json.loads((bench.package / "template.json").read_text()) == request["template"]
    assert all((bench.package / file.path).is_file() for file in message.files)
    assert not (bench.workdir / "scratch").exists()
    manifest = read_manifest(bench.package)
    assert manifest.components[0].signature.inputs[0].shape.max == (4, 3, 12, 12)  # type: ignore[union-attr]
    assert manifest.components[0].options["threads"] == "1"
    assert manifest.args == {"top": {"si": 5}, "sizes": {"vi": [1, 2]}, "names": {"vs": ["a"]}}
    fractions = [step.fraction for step in bench.progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    log = capsys.readouterr().out
    for words in (
        "Converting PTH for cpu-x86-64",
        "exporter",
        "made ready",
        "built",
        "PASS",
        "median",
        "Package written",
    ):
        assert words in log


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_same_request_gives_the_same_bytes(runtime: str, tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        bench = Bench(tmp_path / name)
        bench.put_network(CNN)
        bench.convert(bench.request(runtime=runtime))
        files = sorted(path for path in bench.package.rglob("*") if path.is_file() and path.name != "report.json")
        digests.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert digests[0] == digests[1]


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_preprocessing_is_in_the_graph_and_proven(runtime: str, dtype: str, bench: Bench) -> None:
    network = bench.put_network(CNN)
    steps = {
        "mean_values": [100.0, 110.0, 120.0],
        "scale_values": [50.0, 60.0, 70.0],
        "input_color": "BGR",
        "model_color": "RGB",
    }
    bench.convert(bench.request(runtime=runtime, inputs=[image(dtype=dtype, preprocessing=steps)]))
    bgr = np.random.default_rng(0).integers(0, 256, (2, 3, 12, 12)).astype(dtype)
    rgb = bgr[:, ::-1].astype(np.float32)
    ready = (rgb - np.reshape([100, 110, 120], (1, 3, 1, 1))) / np.reshape([50, 60, 70], (1, 3, 1, 1))
    with torch.inference_mode():
        expected = network(torch.from_numpy(ready.astype(np.float32))).numpy()
    np.testing.assert_allclose(infer(bench, bgr), expected, rtol=1e-3, atol=1e-4)
    tensor = read_manifest(bench.package).components[0].signature.inputs[0]
    assert (tensor.dtype, tensor.range) == (dtype, (0.0, 255.0))


def infer(bench: Bench, x: Any) -> Any:
    import runpy

    model = runpy.run_path(str(bench.package / "infer.py"))["Model"]
    return next(iter(model(bench.package).run(x).values()))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("execution", [{}, {"fuse_operators": True, "copy_parameters": True}])
def test_two_inputs_shared_weights_and_an_integer_output(
    runtime: str, execution: dict[str, bool], bench: Bench
) -> None:
    bench.put_network(TWO_INPUTS)
    inputs = [
        {"name": "ids", "shape": [1, 6], "dtype": "int64", "sample_min": 0, "sample_max": 49},
        {"name": "mask", "shape": [1, 6], "sample_min": 0.5, "sample_max": 1},
    ]
    request = bench.request(
        runtime=runtime, inputs=inputs, output_names=["hidden", "best"], method="raw", execution=execution
    )
    outcome = bench.convert(request)
    outputs = outcome["components"][0]["parity"]["outputs"]
    assert [output["output"] for output in outputs] == ["hidden", "best"]
    assert outputs[1]["max_abs_error"] == 0


@pytest.mark.parametrize(("copy", "count"), [(False, 1), (True, 2)])
def test_tied_weights_are_shared_until_they_are_copied(copy: bool, count: int, bench: Bench) -> None:
    bench.put_network(TIED)
    request = bench.request(method="raw", execution={"copy_parameters": copy}, inputs=[{"name": "x", "shape": [1, 8]}])
    assert bench.convert(request)["components"][0]["parity"]["verdict"] == "PASS"
    weights = [list(tensor.dims) for tensor in onnx.load(bench.package / "net/model.onnx").graph.initializer]
    assert weights.count([8, 8]) == count


@needs_bf16
def test_bfloat16_is_measured_as_such(bench: Bench) -> None:
    bench.put_network(CNN)
    outcome = bench.convert(bench.request(runtime="openvino", precision="BF16", error_threshold=0.05))
    error = outcome["components"][0]["parity"]["outputs"][0]["max_rel_error"]
    assert 1e-4 < error < 0.05
    manifest = read_manifest(bench.package)
    assert manifest.components[0].options["INFERENCE_PRECISION_HINT"] == "bf16"
    assert "avx512_bf16" in manifest.requirements.cpu_flags_any


@needs_bf16
def test_a_build_that_diverges_names_the_first_node(bench: Bench) -> None:
    bench.put_network(CNN)
    found = failure(bench, bench.request(runtime="openvino", precision="BF16", error_threshold=1e-6))
    assert found.reason is FailureReason.PARITY_FAILED
    assert found.operator == "Conv"
    assert found.node
    assert "first diverging" in found.evidence
    assert "error_threshold" in found.suggested_fix


@needs_bf16
def test_the_first_diverging_node_of_hundreds_is_found(bench: Bench) -> None:
    """All layers but one compute small whole numbers, which bfloat16 holds exactly."""

    def exact_but_one(network: Any) -> None:
        for index, layer in enumerate(network):
            if hasattr(layer, "weight"):
                layer.weight.data = torch.eye(16) * (1.001 if index == 2 * 77 else 1)
                layer.bias.data.zero_()

    bench.put_network(DEEP, exact_but_one)
    whole = [{"name": "x", "shape": [1, 16], "dtype": "float32", "preprocessing": {"mean_values": [128]}}]
    request = bench.request(runtime="openvino", precision="BF16", error_threshold=1e-5, inputs=whole)
    found = failure(bench, request)
    assert "module '154'" in found.evidence


DECIDES = """
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.head = torch.nn.Linear(4, 4)

        def forward(self, x):
            return self.head(x) if x.sum() < 1000 else x

    @architecture("Net")
    def build():
        return Net()
"""


def test_a_runtime_that_takes_the_network_needs_no_graph(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(*_: object) -> None:
        raise EngineFailure(FailureReason.UNSUPPORTED_OPERATOR, "There is no such operator.")

    monkeypatch.setattr(module_source, "export", export)
    bench.put_network(CNN)
    outcome = bench.convert(bench.request(runtime="torchscript", output_names=["scores"]))
    assert outcome["components"][0]["parity"]["verdict"] == "PASS"
    assert read_manifest(bench.package).components[0].signature.inputs[0].shape.max == (4, 3, 12, 12)  # type: ignore[union-attr]
    found = failure(bench, bench.request(runtime="torchscript", error_threshold=1e-12))
    assert found.reason is FailureReason.PARITY_FAILED
    assert "first diverging: unknown, as the network has no graph: There is no such operator." in found.evidence
    assert failure(bench, bench.request(runtime="onnxruntime")).reason is FailureReason.UNSUPPORTED_OPERATOR


@pytest.mark.parametrize("runtime", ["torchscript", "onnxruntime"])
def test_decisions_that_a_form_keeps_to_are_told(runtime: str, bench: Bench) -> None:
    bench.put_network(DECIDES)
    given = [{"name": "x", "shape": ["1", "4"]}]
    (component,) = bench.convert(bench.request(runtime=runtime, inputs=given))["components"]
    (warning,) = component["warnings"]
    assert "Tracing recorded the decisions at net.py:" in warning


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_an_impossible_threshold_names_a_node_and_its_module(runtime: str, bench: Bench) -> None:
    bench.put_network(CNN)
    found = failure(bench, bench.request(runtime=runtime, error_threshold=1e-12))
    assert found.reason is FailureReason.PARITY_FAILED
    assert found.node
    assert "module 'features" in found.evidence
    assert "required: relative error at most 1e-12" in found.message


def test_a_failure_is_let_through_by_name_only(bench: Bench) -> None:
    bench.put_network(CNN)
    request = bench.request(error_threshold=1e-12)
    outcome = bench.convert({**request, "parity_waivers": {"net": "ticket 4711"}})
    parity = outcome["components"][0]["parity"]
    assert (parity["verdict"], parity["waiver"]) == ("FAIL", "ticket 4711")
    assert parity["first_diverging_node"]
    assert json.loads((bench.package / "manifest.json").read_text())["components"][0]["parity"] == parity
    found = failure(bench, {**request, "parity_waivers": {"other": "x"}})
    assert found.reason is FailureReason.INVALID_SPEC
    assert "'other'" in found.message


def test_outputs_that_are_no_numbers_prove_nothing(bench: Bench) -> None:
    bench.put_network(NAN)
    inputs = [{"name": "x", "shape": [1, 4]}]
    found = failure(bench, bench.request(inputs=inputs, method="raw"))
    assert found.reason is FailureReason.PARITY_FAILED
    assert "only NaN or infinity in output" in found.message
    assert found.operator == "Log"
    assert "NaN first comes out of node" in found.message


def test_the_users_samples_are_used(bench: Bench) -> None:
    bench.put_network(CNN)
    (bench.workdir / "samples").mkdir()
    x = np.random.default_rng(0).standard_normal((9, 3, 12, 12)).astype(np.float32)
    np.savez(bench.workdir / "samples/s.npz", x=x)
    outcome = bench.convert({**bench.request(), "samples_path": "samples/s.npz"})
    parity = outcome["components"][0]["parity"]
    assert (parity["sample_source"], parity["samples"]) == ("USER", 9)
    np.savez(bench.workdir / "samples/s.npz", x=x[:, :2])
    found = failure(bench, {**bench.request(), "samples_path": "samples/s.npz"})
    assert "'x' has the shape 9*2*12*12" in found.message
