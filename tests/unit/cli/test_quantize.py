from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from lathe.quantizer.v1.quantization_service_pb2 import (
    CALIBRATION_METHOD_MINMAX,
    GRANULARITY_PER_TENSOR,
    QUANTIZATION_SCHEME_DYNAMIC,
    CreateQuantizationTaskRequest,
    QuantizationResult,
    QuantizationSpec,
    QuantizationTask,
)
from lathe.type.v1 import failure_pb2, task_pb2
from lathe.type.v1.digest_pb2 import Digest
from lathe.type.v1.precision_pb2 import PRECISION_BF16, PRECISION_FP16, PRECISION_INT4, PRECISION_INT8

from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import Suite

PAGE = b"<html>report</html>"
NAME = "quantizationTasks/q1"


def task(state: task_pb2.TaskState.ValueType, **fields: Any) -> QuantizationTask:
    return QuantizationTask(name=NAME, status=task_pb2.TaskStatus(state=state, **fields))


@pytest.fixture
def created(suite: Suite) -> Suite:
    """Tasks succeed, with a report."""
    digest = Digest(sha256=hashlib.sha256(PAGE).hexdigest(), size_bytes=len(PAGE))
    suite.blobs[digest.sha256] = PAGE
    done = task(task_pb2.TASK_STATE_SUCCEEDED)
    done.result.CopyFrom(QuantizationResult(model_version="models/digits/versions/9", html_report=digest))
    suite.answers |= {"CreateQuantizationTask": task(task_pb2.TASK_STATE_PENDING), "WatchQuantizationTask": [done]}
    return suite


def spec(suite: Suite) -> QuantizationSpec:
    request: CreateQuantizationTaskRequest = suite.asked["CreateQuantizationTask"][-1]
    return request.task.spec


def test_a_gain_that_is_required_has_an_exit_code(created: Suite, lathe: Lathe) -> None:
    words = ("quantize", "digits/2", "-d", "digits", "--require-gain")
    assert lathe(*words).code == 0
    created.answers["WatchQuantizationTask"][0].result.no_gain_reason = "int8 is slower here"
    assert lathe(*words).code == 11
    assert lathe(*words[:-1]).code == 0
    assert lathe(*words, "--no-wait").code == 2


def test_omitted_options_are_left_to_the_service(created: Suite, lathe: Lathe) -> None:
    assert lathe("quantize", "digits/2", "-d", "digits", "--no-wait").code == 0
    said = spec(created)
    assert (said.model_version, said.precision) == ("models/digits/versions/2", PRECISION_INT8)
    assert said.calibration_data.dataset == "datasets/digits"
    set_fields = {field.name for field, _ in said.ListFields()}
    assert set_fields == {"model_version", "precision", "calibration_data"}


@pytest.mark.parametrize(
    ("word", "precision"), [("fp16", PRECISION_FP16), ("BF16", PRECISION_BF16), ("INT4", PRECISION_INT4)]
)
def test_a_precision_has_a_default_scheme(created: Suite, lathe: Lathe, word: str, precision: int) -> None:
    assert lathe("quantize", "digits/2", "--precision", word, "--no-wait").code == 0
    assert (spec(created).precision, spec(created).scheme) == (precision, 0)


def test_all_options_are_passed_on(created: Suite, lathe: Lathe, tmp_path: Path) -> None:
    images = tmp_path / "images.zip"
    images.write_bytes(b"zip")
    words = [
        *("--calibration", str(images), "--samples", "64", "--batch", "8", "--step", "resize=8x9", "--step", "cvtRGB"),
        *("--method", "3", "--scheme", "dynamic", "--runtime", "openvino", "--device", "cpu-x86-64", "--asymmetric"),
        *("--per-tensor", "--exclude", "a", "--exclude", "b", "--max-degradation", "0.5"),
        *("--accuracy-dataset", "held-out", "--metric", "top1", "--template", "mine", "--output-model", "small"),
        *("--name", "A name", "--label", "team=x", "--timeout", "60", "--skip-cache", "--no-wait"),
    ]
    assert lathe("quantize", "digits/2", *words).code == 0
    request = created.asked["CreateQuantizationTask"][0]
    said = request.task.spec
    assert (request.task.display_name, dict(request.task.labels), request.skip_cache) == ("A name", {"team": "x"}, True)
    data = said.calibration_data
    assert data.artifact == Digest(sha256=hashlib.sha256(b"zip").hexdigest(), size_bytes=3)
    assert (data.samples, data.batch_size) == (64, 8)
    assert [step.WhichOneof("step") for step in data.preprocessing] == ["resize", "cvt_rgb"]
    assert (said.calibration_method, said.scheme, said.granularity) == (
        CALIBRATION_METHOD_MINMAX,
        QUANTIZATION_SCHEME_DYNAMIC,
        GRANULARITY_PER_TENSOR,
    )
    assert (said.runtime, said.device, said.asymmetric, list(said.excluded_nodes)) == (
        "openvino",
        "cpu-x86-64",
        True,
        ["a", "b"],
    )
    bound = said.accuracy
    assert (bound.max_degradation, bound.dataset, bound.metric) == (0.5, "datasets/held-out", "top1")
    assert (said.template, said.output_model, said.timeout.seconds) == ("templates/mine", "models/small", 60)


def test_a_bound_is_measured_on_the_calibration_dataset_by_default(created: Suite, lathe: Lathe) -> None:
    lathe("quantize", "digits/2", "-d", "digits", "--max-degradation", "0", "--no-wait")
    assert spec(created).HasField("accuracy")
    assert spec(created).accuracy.dataset == "datasets/digits"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--precision", "FP7"], "--precision 'FP7' is not one of FP32, "),
        (["--scheme", "wild"], "--scheme 'WILD' is not one of STATIC, DYNAMIC, WEIGHT_ONLY"),
        (["--method", "9"], "--method '9' is not one of ENTROPY_2"),
        (["-d", "a", "--calibration", "b.zip"], "not both"),
        (["--calibration", "missing.zip"], "missing.zip: there is no such file"),
        (["--max-degradation", "1"], "--max-degradation needs --accuracy-dataset"),
        (["-d", "a", "--accuracy-dataset", "b"], "need --max-degradation"),
        (["-d", "a", "--metric", "top1"], "need --max-degradation"),
        (["-d", "a", "--step", "shrink=2"], "--step 'shrink=2' is not a step"),
        (["-d", "a", "--report", "r.html", "--no-wait"], "--report needs the task to end"),
    ],
)
def test_invalid_requests_are_rejected_before_anything_is_created(
    created: Suite, lathe: Lathe, words: list[str], said: str
) -> None:
    ended = lathe("quantize", "digits/2", *words)
    assert ended.code != 0
    assert said in ended.err
    assert "CreateQuantizationTask" not in created.asked


def test_the_report_of_a_success_is_written(created: Suite, lathe: Lathe, tmp_path: Path) -> None:
    page = tmp_path / "new" / "report.html"
    ended = lathe("quantize", "digits/2", "-d", "a", "--report", str(page))
    assert ended.code == 0
    assert "quantizationTasks/q1 made digits/9" in ended.err
    assert page.read_bytes() == PAGE


def test_a_failure_writes_no_report(created: Suite, lathe: Lathe, tmp_path: Path) -> None:
    failure = failure_pb2.Failure(
        reason=failure_pb2.FAILURE_REASON_INVALID_DATA, message="It is no image.", suggested_fix="Send one."
    )
    created.answers["WatchQuantizationTask"] = [task(task_pb2.TASK_STATE_FAILED, failure=failure)]
    ended = lathe("quantize", "digits/2", "-d", "a", "--report", str(tmp_path / "report.html"))
    assert ended.code == 5
    assert "INVALID_DATA: It is no image." in ended.err
    assert "what to do: Send one." in ended.err
    assert not any(tmp_path.iterdir())
