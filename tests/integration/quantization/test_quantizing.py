"""Tiny trained networks through the whole quantization, in this process, in the runtimes that serve them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lathe.internal.v1.quantization_pb2 import QuantizationOutcome
from lathe.type.v1.measurement_pb2 import SAMPLE_SOURCE_GENERATED, Verdict

from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import read_manifest
from services.platform.words import from_values
from tests.integration.quantization.workbench import BLOCK, IDS, IMAGES, QuantizationBench, digits, put_tensors

TAXONOMIES = [{"task": "digit", "classes": [str(digit) for digit in range(10)]}]
DIGITS_TEMPLATE: dict[str, Any] = {"inputs": IMAGES, "max_batch": 8, "taxonomies": TAXONOMIES}
BLOCK_TEMPLATE: dict[str, Any] = {"inputs": IDS, "max_batch": 4, "method": "raw"}


def outcome(bench: QuantizationBench, request: dict[str, Any]) -> QuantizationOutcome:
    """Run, and check that the outcome is what the API says it is."""
    return from_values(bench.quantize(request), QuantizationOutcome())


def put_block(bench: QuantizationBench) -> dict[str, Any]:
    """Write the block and its calibration data."""
    bench.put_onnx(BLOCK, np.zeros((1, 12), np.int64))
    ids = np.random.default_rng(0).integers(0, 64, (24, 12))
    return put_tensors(bench.workdir / "calibration", {"ids": ids})


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_digits_keep_their_accuracy(runtime: str, bench: QuantizationBench) -> None:
    bench.put_digits()
    spec = {"accuracy": {"max_degradation": 1.0}, "calibration_data": {"samples": 64, "batch_size": 4}}
    request = bench.work(spec, runtime=runtime, **DIGITS_TEMPLATE)
    request |= {"calibration": bench.calibration, "evaluation": bench.evaluation}
    found = outcome(bench, request)
    result = found.result
    assert result.metric == "top1"
    assert result.source_accuracy > 0.9
    assert result.bound_held
    assert result.source_accuracy - result.accuracy <= 0.01
    assert result.size_bytes < 0.5 * result.source_size_bytes
    assert [candidate.chosen for candidate in result.candidates].count(True) == 1
    assert all(candidate.reason for candidate in result.candidates if not candidate.chosen)
    assert result.parity.verdict != Verdict.VERDICT_FAIL
    assert list(result.parity.batch_sizes) == [1, 2, 8]
    assert result.profile.forms[0].form == f"{runtime} FP32"
    assert len(result.sensitivities) >= 3
    assert list(found.architecture_digests) == ["architectures/net"]
    paths = {file.path for file in found.files}
    assert {"manifest.json", "template.json", "quantization.html", "report.json", "infer.py"} <= paths
    assert json.loads((bench.package / "template.json").read_text()) == request["conversion"]["template"]
    manifest = read_manifest(bench.package)
    assert manifest.precision == "INT8"
    assert manifest.quantization is not None
    assert (manifest.quantization.scheme, manifest.quantization.method) == ("STATIC", "ENTROPY_2")
    assert manifest.quantization.components["net"].floating_point_nodes == ()
    check_infer(bench.package)


def check_infer(package: Path) -> None:
    """The package's own script finds nearly every class."""
    images, classes = digits()
    np.save(package / "x.npy", images[1200:1300])
    script, given, found = (str(package / name) for name in ("infer.py", "x.npy", "y.npy"))
    command = [sys.executable, "-I", script, "--input", given, "--output", found]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", env={"PATH": "/usr/bin"})
    assert done.returncode == 0, done.stderr
    assert (np.load(found).argmax(1) == classes[1200:1300]).mean() > 0.9


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    "spec",
    [{"scheme": "DYNAMIC"}, {"scheme": "WEIGHT_ONLY"}, {"precision": "INT4"}, {"precision": "FP16"}],
    ids=["dynamic", "weights", "int4", "fp16"],
)
def test_schemes_without_calibration(runtime: str, spec: dict[str, Any], bench: QuantizationBench) -> None:
    put_block(bench)
    request = bench.onnx_work(spec, runtime=runtime, **BLOCK_TEMPLATE)
    if spec.get("precision") == "INT4":  # random weights bear no four bits: a waiver is what a user would give
        request["conversion"]["parity_waivers"] = {"net": "a test of the road"}
    result = outcome(bench, request).result
    assert result.size_bytes < 0.8 * result.source_size_bytes
    assert result.parity.sample_source == SAMPLE_SOURCE_GENERATED
    assert result.candidates[0].cosine > 0.9
    assert read_manifest(bench.package).precision == spec.get("precision", "INT8")


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_transformer_block_computes_what_its_source_computes(runtime: str, bench: QuantizationBench) -> None:
    calibration = put_block(bench)
    request = {**bench.onnx_work({}, runtime=runtime, **BLOCK_TEMPLATE), "calibration": calibration}
    result = outcome(bench, request).result
    assert min(output.cosine for output in result.parity.outputs) >= 0.99
    assert result.sensitivities
    assert result.no_gain_reason or "faster" in str(result.profile.conclusions)


def test_the_same_work_gives_the_same_bytes(bench: QuantizationBench) -> None:
    calibration = put_block(bench)
    request = {**bench.onnx_work({"scheme": "DYNAMIC"}, **BLOCK_TEMPLATE), "calibration": calibration}
    contents = []
    for _ in range(2):
        bench.quantize(request)
        files = [path for path in sorted(bench.package.rglob("*")) if path.is_file()]
        reports = {"report.json", "quantization.html"}
        contents.append({path: path.read_bytes() for path in files if path.name not in reports})
    assert contents[0] == contents[1]


def test_excluded_nodes_stay_in_floating_point(bench: QuantizationBench) -> None:
    calibration = put_block(bench)
    request = {**bench.onnx_work({"scheme": "DYNAMIC"}, **BLOCK_TEMPLATE), "calibration": calibration}
    nodes = [entry.node for entry in outcome(bench, request).result.sensitivities]
    request["spec"]["excluded_nodes"] = nodes[:1]
    left = [entry.node for entry in outcome(bench, request).result.sensitivities]
    assert set(left) == set(nodes[1:])
    manifest = read_manifest(bench.package)
    assert manifest.quantization is not None
    assert manifest.quantization.components["net"].floating_point_nodes == (nodes[0],)
    request["spec"]["excluded_nodes"] = [nodes[0] + "x"]
    with pytest.raises(EngineFailure, match="Similar names:") as caught:
        bench.quantize(request)
    assert caught.value.reason is FailureReason.INVALID_SPEC


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_quantization_that_the_source_has_is_kept(runtime: str, bench: QuantizationBench) -> None:
    calibration = put_block(bench)
    bench.quantize({**bench.onnx_work({}, **BLOCK_TEMPLATE), "calibration": calibration})
    source = bench.workdir / "source/quantized.onnx"
    source.write_bytes((bench.package / "net/model.onnx").read_bytes())
    request = bench.onnx_work({}, runtime=runtime, **BLOCK_TEMPLATE)
    request["conversion"]["inputs"] = [{"path": "source/quantized.onnx"}]
    result = outcome(bench, {**request, "calibration": calibration}).result
    assert [candidate.quantizer for candidate in result.candidates] == ["kept as it is"]
    assert any("is already quantized" in words for words in result.warnings)
