"""Quantized forms that do not run on the machine that makes them: one form as asked, no figure, and no pass.

ONNX Runtime stands in for a runtime of another device here: it builds, and says that its forms run elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from lathe.internal.v1.quantization_pb2 import QuantizationOutcome
from lathe.type.v1.measurement_pb2 import VERDICT_UNVERIFIED

from engines.failures import EngineFailure, FailureReason
from engines.package.manifest import read_manifest
from engines.runtimes import Where, runtimes
from engines.runtimes.onnxruntime.runtime import OnnxRuntime
from engines.sandbox.environment import AMCT
from services.platform.words import from_values
from tests.integration.quantization.test_quantizing import BLOCK_TEMPLATE, put_block
from tests.integration.quantization.workbench import QuantizationBench
from tests.unit.runtimes.ascend.installation import install, install_amct, use


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxRuntime, "where", lambda *_: Where.DEVICE)
    monkeypatch.setattr(OnnxRuntime, "open", lambda *_: pytest.fail("a form was opened"))


def test_the_first_form_that_can_be_made_is_the_result_and_nothing_is_said_of_it(bench: QuantizationBench) -> None:
    calibration = put_block(bench)
    request = {**bench.onnx_work({"scheme": "STATIC"}, **BLOCK_TEMPLATE), "calibration": calibration}
    request["conversion"]["parity_waivers"] = {"net": "whatever it is"}  # accepts what was measured
    result = from_values(bench.quantize(request), QuantizationOutcome()).result
    assert result.parity.verdict == VERDICT_UNVERIFIED
    assert "a worker for cpu-x86-64" in result.parity.missing
    assert (result.parity.waiver, result.parity.device, list(result.parity.outputs)) == ("", "", [])
    assert not result.HasField("profile")
    (candidate,) = result.candidates
    assert candidate.chosen
    assert (candidate.cosine, candidate.median_ms) == (0, 0)
    assert "not run" in candidate.reason
    assert 0 < result.size_bytes < result.source_size_bytes
    assert any("Not measured" in words for words in result.warnings)
    assert result.coverage.quantized_products
    assert read_manifest(bench.package).components[0].parity["verdict"] == "UNVERIFIED"
    assert "UNVERIFIED: nobody has seen this form compute" in (bench.package / "quantization.html").read_text()


def test_accuracy_that_nobody_can_measure_is_refused(bench: QuantizationBench) -> None:
    data = put_block(bench)
    template = BLOCK_TEMPLATE | {"method": "embedding"}
    request = bench.onnx_work({"scheme": "DYNAMIC", "accuracy": {"max_degradation": 1.0}}, **template)
    request |= {"evaluation": data}
    with pytest.raises(
        EngineFailure, match="forms of ONNX Runtime for cpu-x86-64 do not run on this machine"
    ) as caught:
        bench.quantize(request)
    assert caught.value.reason is FailureReason.TOOLCHAIN_UNAVAILABLE


@pytest.mark.skipif(
    runtimes()["tensorrt-rtx"].available() is not None, reason="TensorRT-RTX's packages are for x86-64 Linux"
)
def test_a_t4_without_products_in_fp32_gets_a_transformer_with_fp16_beside_the_integers(
    bench: QuantizationBench,
) -> None:
    calibration = put_block(bench)
    template = BLOCK_TEMPLATE | {"device": "nvidia-t4", "runtime": "tensorrt-rtx"}
    request = {**bench.onnx_work({"scheme": "STATIC"}, **template), "calibration": calibration}
    result = from_values(bench.quantize(request), QuantizationOutcome()).result
    assert result.parity.verdict == VERDICT_UNVERIFIED
    assert result.coverage.quantized_products
    (chosen,) = [candidate for candidate in result.candidates if candidate.chosen]
    assert "FP16 beside" in chosen.quantizer


@pytest.mark.skipif(
    runtimes()["tensorrt-rtx"].available() is not None, reason="TensorRT-RTX's packages are for x86-64 Linux"
)
def test_an_a10_gets_weights_of_four_bits_that_the_graph_dequantizes(bench: QuantizationBench) -> None:
    put_block(bench)
    template = BLOCK_TEMPLATE | {"device": "nvidia-a10", "runtime": "tensorrt-rtx"}
    result = from_values(
        bench.quantize(bench.onnx_work({"precision": "INT4"}, **template)), QuantizationOutcome()
    ).result
    assert result.parity.verdict == VERDICT_UNVERIFIED
    assert result.coverage.quantized_products
    (candidate,) = result.candidates
    assert (candidate.chosen, candidate.quantizer) == (True, "INT4 weights, floating-point products")
    assert read_manifest(bench.package).precision == "INT4"


@pytest.mark.parametrize("installed", [True, False])
def test_an_ascend_chip_gets_what_its_own_quantizer_makes_if_that_is_installed(
    installed: bool, bench: QuantizationBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-ins for AMCT and ATC: no form that any chip runs comes of it."""
    use(install(tmp_path / "cann"), monkeypatch)
    monkeypatch.setenv(AMCT, str(install_amct(tmp_path / "amct") if installed else tmp_path))
    calibration = put_block(bench)
    template = BLOCK_TEMPLATE | {"device": "ascend-310p", "runtime": "ascend"}
    request = {**bench.onnx_work({"scheme": "STATIC"}, **template), "calibration": calibration}
    result = from_values(bench.quantize(request), QuantizationOutcome()).result
    assert result.parity.verdict == VERDICT_UNVERIFIED
    assert result.coverage.quantized_products
    (chosen,) = [candidate for candidate in result.candidates if candidate.chosen]
    assert chosen.quantizer.startswith("AMCT" if installed else "onnxruntime")
    said = " ".join(result.warnings)
    assert ("AMCT's simulation on a CPU" in said) is installed
    assert (f"start the worker with {AMCT}=DIR" in said) is not installed
