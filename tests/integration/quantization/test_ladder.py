"""Accuracy control on layers that eight bits ruin: they, and no others, stay in floating point."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import read_manifest
from engines.runtimes.onnxruntime.runtime import OnnxRuntimeSession
from engines.tensors import Array
from tests.integration.quantization.workbench import OUTLIERS, QuantizationBench, put_tensors

SPEC = {"calibration_method": "MINMAX", "asymmetric": True}
TEMPLATE: dict[str, Any] = {
    "inputs": [{"name": "x", "shape": [1, 16]}],
    "max_batch": 4,
    "taxonomies": [{"task": "digit", "classes": [str(number) for number in range(16)]}],
}


def put(bench: QuantizationBench, factors: list[float]) -> tuple[Array, Array]:
    """Write a network and its calibration data; return more data and the classes that the network finds in it."""
    bench.put_onnx(OUTLIERS.replace("FACTORS", str(factors)[1:-1]), np.zeros((1, 16), np.float32))
    data = np.random.default_rng(0).standard_normal((264, 16)).astype(np.float32)
    put_tensors(bench.workdir / "calibration", {"x": data[:64]})
    scores = OnnxRuntimeSession(bench.workdir / "source/net.onnx", 1, optimise=False).run({"x": data[64:]})["output"]
    return data[64:], scores.argmax(1)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_layer_that_costs_most_stays_in_floating_point(runtime: str, bench: QuantizationBench) -> None:
    put(bench, [1.0, 1e4, 1.0, 1.0])
    request = {**bench.onnx_work(SPEC, runtime=runtime, **TEMPLATE), "calibration": {"items": "64"}}
    result = bench.quantize(request)["result"]
    assert all(candidate["cosine"] < 0.99 for candidate in result["candidates"] if "cosine" in candidate)
    assert result["parity"]["outputs"][0]["cosine"] >= 0.99
    assert [len(rung["floating_point_nodes"]) for rung in result["ladder"]] == [1]
    manifest = read_manifest(bench.package)
    assert manifest.quantization is not None
    (node,) = manifest.quantization.components["net"].floating_point_nodes
    assert "layers.1" in node
    assert "became the result" in str(result["candidates"])


def test_a_bound_that_nothing_holds_is_told_with_the_best_form(bench: QuantizationBench) -> None:
    data, classes = put(bench, [1e4, 1e4])
    evaluation = put_tensors(bench.workdir / "evaluation", {"x": data}, classes)
    spec = {**SPEC, "accuracy": {"max_degradation": 0.5}}
    request = {**bench.onnx_work(spec, **TEMPLATE), "calibration": {"items": "64"}, "evaluation": evaluation}
    result = bench.quantize(request)["result"]
    assert result["bound_held"] is False
    assert result["source_accuracy"] == 1.0
    measured = [rung["accuracy"] for rung in result["ladder"]]
    assert measured
    assert result["accuracy"] >= max(measured)
    assert result["parity"]["waiver"].startswith("accuracy is judged instead")


def test_without_a_bound_what_computes_something_else_is_no_package(bench: QuantizationBench) -> None:
    put(bench, [1e4, 1e4])
    with pytest.raises(
        EngineFailure, match="No form of component 'net' computes what its source computes; of the best one, output"
    ) as caught:
        bench.quantize({**bench.onnx_work(SPEC, **TEMPLATE), "calibration": {"items": "64"}})
    assert caught.value.reason is FailureReason.PARITY_FAILED
    assert "cosine" in caught.value.evidence
