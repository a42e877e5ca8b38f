"""Requests: what they mean if nothing is said, and what is refused."""

from typing import Any

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.quantization.request import QuantizationRequest, QuantizationSpec


def work(spec: dict[str, Any], **values: Any) -> dict[str, Any]:
    template = {
        "source_format": "ONNX",
        "device": "cpu-x86-64",
        "runtime": values.pop("runtime", "onnxruntime"),
        "components": [{"name": name} for name in values.pop("components", ["net"])],
    }
    return {"conversion": {"inputs": [{"path": "source/m.onnx"}], "template": template}, "spec": spec, **values}


def refused(spec: dict[str, Any], **values: Any) -> EngineFailure:
    with pytest.raises(EngineFailure) as caught:
        QuantizationRequest.parse(work(spec, **values))
    return caught.value


def test_what_nobody_says_is_static_int8_by_entropy_per_channel() -> None:
    spec = QuantizationRequest.parse(work({})).spec
    assert (spec.arithmetic, spec.kind, spec.method, spec.per_channel) == ("INT8", "STATIC", "ENTROPY_2", True)
    assert spec.method_is_open
    assert not QuantizationSpec(calibration_method="ENTROPY_2").method_is_open
    assert QuantizationSpec(precision="INT4").kind == "WEIGHT_ONLY"
    assert QuantizationSpec(precision="FP16").kind == "HALF"


def test_protobufs_strings_for_integers_are_read() -> None:
    spec = {"calibration_data": {"samples": 8, "batch_size": 2, "seed": "7"}}
    data = QuantizationRequest.parse(work(spec)).spec.calibration_data
    assert data is not None
    assert (data.samples, data.batch_size, data.seed) == (8, 2, 7)


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"precision": "FP32"}, FailureReason.INVALID_SPEC, "FP32 needs no quantization"),
        (
            {"precision": "BF16"},
            FailureReason.UNSUPPORTED_PRECISION,
            "onnxruntime on cpu-x86-64 does not compute in BF16",
        ),
        (
            {"precision": "INT4", "scheme": "STATIC"},
            FailureReason.INVALID_SPEC,
            "STATIC does not go with INT4, which takes WEIGHT_ONLY",
        ),
        ({"precision": "FP16", "scheme": "DYNAMIC"}, FailureReason.INVALID_SPEC, "which takes no scheme"),
        ({"accuracy": {"max_degradation": 1}}, FailureReason.INVALID_SPEC, "needs a dataset"),
        ({"calibration_data": {"samples": "many"}}, FailureReason.INVALID_SPEC, "spec.calibration_data.samples"),
    ],
)
def test_what_cannot_be_is_refused(spec: dict[str, Any], reason: FailureReason, words: str) -> None:
    failure = refused(spec)
    assert failure.reason is reason
    assert words in failure.message


def test_accuracy_is_for_models_of_one_component() -> None:
    files = [{"path": "source/a"}, {"path": "source/b"}]
    request = work({"accuracy": {}}, evaluation={"items": "3"}, components=["a", "b"])
    request["conversion"]["inputs"] = files
    request["conversion"]["template"]["components"] = [
        {"name": "a", "source_file": "a"},
        {"name": "b", "source_file": "b"},
    ]
    with pytest.raises(EngineFailure, match="models of one component"):
        QuantizationRequest.parse(request)
