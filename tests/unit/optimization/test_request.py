"""What an optimization is asked to do, read and refused."""

from typing import Any

import pytest

from engines.failures import EngineFailure, FailureReason
from engines.optimization import request
from engines.optimization.request import DEFAULT_BUDGET_SECONDS, OptimizationRequest
from engines.runtimes import targets
from tests.unit.spec.planned import with_planned


def work(**spec: Any) -> dict[str, Any]:
    """Return the work of an ONNX source."""
    component = {"name": "net", "inputs": [{"name": "x", "shape": ["1", "8"]}], "max_batch": 2}
    template = {"source_format": "ONNX", "device": "cpu-x86-64", "runtime": "tensorrt", "components": [component]}
    return {"conversion": {"inputs": [{"path": "source/m.onnx"}], "template": template, "seed": "3"}, "spec": spec}


def refused(values: dict[str, Any]) -> EngineFailure:
    with pytest.raises(EngineFailure) as caught:
        OptimizationRequest.parse(values)
    return caught.value


def test_what_is_not_said_has_a_meaning() -> None:
    request = OptimizationRequest.parse(work())
    assert (request.spec.goal, request.spec.aim) == ("FP32", "LATENCY")
    assert request.spec.budget_seconds == DEFAULT_BUDGET_SECONDS
    assert request.threshold == 1e-4
    assert request.conversion.seed == 3


def test_numbers_come_as_protobuf_writes_them() -> None:
    request = OptimizationRequest.parse(work(search_budget="20s", seed="7", error_threshold=1e-3))
    assert request.spec.budget_seconds == 20
    assert request.conversion.seed == 7
    assert request.threshold == 1e-3


def test_the_runtime_of_the_template_is_of_no_account() -> None:
    request = OptimizationRequest.parse(work())
    assert request.conversion.template.runtime == "onnxruntime"
    assert request.template["runtime"] == "tensorrt"


def test_the_largest_batch_is_the_requests_own_where_it_says_one() -> None:
    assert OptimizationRequest.parse(work()).conversion.template.components[0].max_batch == 2
    assert OptimizationRequest.parse(work(max_batch=16)).conversion.template.components[0].max_batch == 16


@pytest.mark.parametrize(
    ("values", "reason", "words"),
    [
        (work(precision_goal="INT4"), FailureReason.INVALID_SPEC, "INT4 is no goal of a search"),
        (work(max_degradation=0.5), FailureReason.INVALID_SPEC, "needs a dataset"),
        (work(engine_version="0.0.0"), FailureReason.TOOLCHAIN_UNAVAILABLE, "no version '0.0.0' of the engines here"),
        (work(search_budget="soon"), FailureReason.INVALID_SPEC, "search_budget"),
        ({}, FailureReason.INVALID_SPEC, "there is no device"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(values: dict[str, Any], reason: FailureReason, words: str) -> None:
    failure = refused(values)
    assert failure.reason is reason
    assert words in failure.message


def test_a_device_that_nothing_is_built_for_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request, "load_catalog", lambda: with_planned("nvidia-p4"))
    monkeypatch.setattr(targets, "load_catalog", lambda: with_planned("nvidia-p4"))
    values = work()
    values["conversion"]["template"]["device"] = "nvidia-p4"
    failure = refused(values)
    assert failure.reason is FailureReason.TOOLCHAIN_UNAVAILABLE
    assert "cpu-x86-64" in failure.suggested_fix


def test_accuracy_is_measured_on_models_of_one_component() -> None:
    values = {**work(), "evaluation": {}}
    first = values["conversion"]["template"]["components"][0]
    source = {"source_file": "m.onnx"}
    values["conversion"]["template"]["components"] = [{**first, **source}, {**first, **source, "name": "other"}]
    assert "this one has 2" in refused(values).message
