from __future__ import annotations

import hashlib
import json
from pathlib import Path

import grpc
import pytest
from lathe.evaluator.v1.evaluation_service_pb2 import (
    EvaluationComparison,
    EvaluationResult,
    EvaluationTask,
    EvaluationTaskGroup,
    Metric,
    MetricDelta,
)
from lathe.type.v1 import failure_pb2, task_pb2
from lathe.type.v1.digest_pb2 import Digest
from lathe.type.v1.operation_pb2 import (
    OPERATION_STATE_FAILED,
    OPERATION_STATE_RUNNING,
    OPERATION_STATE_SUCCEEDED,
)
from lathe.type.v1.precision_pb2 import PRECISION_INT8
from lathe_client.transfers import digest_of

from services.cli.failures import CliError
from services.cli.import_evaluation import parse_metric
from services.cli.packing import pack
from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import RefusedError, Suite

PAGE = b"<html>report</html>"
DIGEST = Digest(sha256=hashlib.sha256(PAGE).hexdigest(), size_bytes=len(PAGE))


def task(state: task_pb2.TaskState.ValueType) -> EvaluationTask:
    return EvaluationTask(name="evaluationTasks/e1", status=task_pb2.TaskStatus(state=state))


@pytest.fixture
def created(suite: Suite) -> Suite:
    """Tasks succeed, with a report."""
    suite.blobs[DIGEST.sha256] = PAGE
    done = task(task_pb2.TASK_STATE_SUCCEEDED)
    done.result.CopyFrom(
        EvaluationResult(metrics=[Metric(name="top1", value=0.5)], main_metric="top1", html_report=DIGEST)
    )
    suite.answers |= {"CreateEvaluationTask": task(task_pb2.TASK_STATE_PENDING), "WatchEvaluationTask": [done]}
    return suite


def test_omitted_options_are_left_to_the_service(created: Suite, lathe: Lathe) -> None:
    ended = lathe("evaluate", "digits/2", "-d", "digits", "--no-wait")
    assert ended.code == 0
    assert "PENDING" in ended.out
    said = created.asked["CreateEvaluationTask"][0].task.spec
    assert {field.name for field, _ in said.ListFields()} == {"model_version", "dataset"}
    assert (said.model_version, said.dataset) == ("models/digits/versions/2", "datasets/digits")


def test_all_options_are_passed_on(created: Suite, lathe: Lathe, tmp_path: Path) -> None:
    images = tmp_path / "images.zip"
    images.write_bytes(b"zip")
    words = [
        *("--images", str(images), "--batch", "4", "--loops", "3", "--iou", "0.5", "--iou", "0.75", "--slice", "scene"),
        *("--class-task", "animal", "--precision", "int8", "--method", "yolo", "--arg", "score_threshold=0.3"),
        *("--step", "resize=8x9", "--samples", "100", "--timeout", "60", "--name", "A name", "--label", "team=x"),
    ]
    assert lathe("evaluate", "digits/2", *words, "--skip-cache").code == 0
    request = created.asked["CreateEvaluationTask"][0]
    said = request.task.spec
    assert (request.task.display_name, dict(request.task.labels), request.skip_cache) == ("A name", {"team": "x"}, True)
    assert said.images == Digest(sha256=hashlib.sha256(b"zip").hexdigest(), size_bytes=3)
    assert (said.batch_size, said.loops, said.samples, said.timeout.seconds) == (4, 3, 100, 60)
    assert (list(said.iou_thresholds), list(said.slices), list(said.class_tasks)) == (
        [0.5, 0.75],
        ["scene"],
        ["animal"],
    )
    assert (said.precision, said.method, said.args["score_threshold"].sf) == (PRECISION_INT8, "yolo", 0.3)
    assert said.preprocessing[0].resize.width == 9


def test_several_packages_are_a_group(created: Suite, lathe: Lathe, tmp_path: Path) -> None:
    created.answers["CreateEvaluationTaskGroup"] = EvaluationTaskGroup(name="evaluationTaskGroups/g1")
    words = ("--dataset", "digits", "--priority", "2", "--label", "team=a")
    assert lathe("evaluate", "digits/1", "net/2", *words, "--no-wait").code == 0
    (asked,) = created.asked["CreateEvaluationTaskGroup"]
    assert list(asked.group.model_versions) == ["models/digits/versions/1", "models/net/versions/2"]
    assert (asked.group.spec.dataset, asked.group.spec.model_version) == ("datasets/digits", "")
    assert (asked.group.priority, dict(asked.group.labels)) == (2, {"team": "a"})
    report = str(tmp_path / "report.html")
    assert lathe("evaluate", "digits/1", "net/2", *words, "--report", report).code == 2


def test_a_folder_of_images_is_packed(created: Suite, lathe: Lathe, tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(name.encode())
    assert lathe("evaluate", "digits/2", "--images", str(folder), "--no-wait").code == 0
    pack([folder], tmp_path / "packed.zip")
    assert created.asked["CreateEvaluationTask"][0].task.spec.images == digest_of(tmp_path / "packed.zip")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "Give --dataset or --images"),
        (["-d", "a", "--images", "b.zip"], "Give --dataset or --images"),
        (["-d", "a", "--precision", "FP7"], "--precision 'FP7' is not one of FP32, "),
        (["-d", "a", "--arg", "x"], "--arg 'x' must be key=value"),
        (["-d", "a", "--report", "r.html", "--no-wait"], "--report needs the task to end"),
    ],
)
def test_invalid_requests_are_rejected_before_anything_is_created(
    created: Suite, lathe: Lathe, words: list[str], said: str
) -> None:
    ended = lathe("evaluate", "digits/2", *words)
    assert ended.code == 2
    assert said in ended.err
    assert "CreateEvaluationTask" not in created.asked


@pytest.mark.parametrize("output", ["table", "json"])
def test_the_report_of_a_success_is_written(created: Suite, lathe: Lathe, tmp_path: Path, output: str) -> None:
    page = tmp_path / "report.html"
    ended = lathe("evaluate", "digits/2", "-d", "a", "--report", str(page), "-o", output)
    assert ended.code == 0
    assert page.read_bytes() == PAGE
    assert f"report: {page}" in ended.err
    if output == "json":
        assert json.loads(ended.out)["result"]["main_metric"] == "top1"
    else:
        assert "0.5000" in ended.out


@pytest.mark.parametrize(("state", "code"), [(task_pb2.TASK_STATE_FAILED, 5), (task_pb2.TASK_STATE_CANCELLED, 6)])
def test_an_unsuccessful_task_writes_no_report(
    created: Suite, lathe: Lathe, tmp_path: Path, state: task_pb2.TaskState.ValueType, code: int
) -> None:
    ended_task = task(state)
    if state == task_pb2.TASK_STATE_FAILED:
        ended_task.status.failure.CopyFrom(
            failure_pb2.Failure(reason=failure_pb2.FAILURE_REASON_OUTPUT_MISMATCH, message="Not so.")
        )
    created.answers["WatchEvaluationTask"] = [ended_task]
    ended = lathe("evaluate", "digits/2", "-d", "a", "--report", str(tmp_path / "report.html"))
    assert ended.code == code
    assert not any(tmp_path.iterdir())
    assert "GetDownload" not in created.asked


def test_a_refusal_is_reported_once_and_writes_no_report(created: Suite, lathe: Lathe, tmp_path: Path) -> None:
    created.answers["WatchEvaluationTask"] = RefusedError(grpc.StatusCode.PERMISSION_DENIED, "It is not yours.")
    ended = lathe("evaluate", "digits/2", "-d", "a", "--report", str(tmp_path / "report.html"))
    assert ended.code != 0
    assert ended.err.count("error:") == 1
    assert "It is not yours." in ended.err
    assert not any(tmp_path.iterdir())


@pytest.fixture
def compared(suite: Suite) -> Suite:
    """Evaluations can be compared."""
    suite.blobs[DIGEST.sha256] = PAGE
    delta = MetricDelta(task="evaluationTasks/b", delta=Metric(name="top1", value=-0.01, low=-0.02, high=-0.001))
    begun = EvaluationComparison(name="evaluationComparisons/c", state=OPERATION_STATE_RUNNING, progress=0.5)
    ended = EvaluationComparison(
        name="evaluationComparisons/c",
        state=OPERATION_STATE_SUCCEEDED,
        deltas=[delta],
        samples=360,
        agreement=0.99,
        html_report=DIGEST,
    )
    suite.answers["CreateEvaluationComparison"] = begun
    suite.answers["WatchEvaluationComparison"] = [begun, ended]
    return suite


def test_evaluations_are_compared_by_id_or_name(compared: Suite, lathe: Lathe) -> None:
    ended = lathe("compare", "a", "evaluationTasks/b")
    assert ended.code == 0
    asked = compared.asked["CreateEvaluationComparison"][0].evaluation_comparison
    assert list(asked.tasks) == ["evaluationTasks/a", "evaluationTasks/b"]
    assert "-0.0100" in ended.out
    assert "360 samples, 99.00% agreement; evaluationComparisons/c" in ended.err


def test_a_comparison_has_a_report_and_json(compared: Suite, lathe: Lathe, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    ended = lathe("compare", "a", "b", "--report", str(page), "-o", "json")
    assert ended.code == 0
    assert page.read_bytes() == PAGE
    assert json.loads(ended.out)["deltas"][0]["delta"]["name"] == "top1"


def test_a_failed_comparison_writes_no_report(compared: Suite, lathe: Lathe, tmp_path: Path) -> None:
    compared.answers["CreateEvaluationComparison"] = RefusedError(grpc.StatusCode.FAILED_PRECONDITION, "They differ.")
    ended = lathe("compare", "a", "b", "--report", str(tmp_path / "report.html"))
    assert ended.code == 7
    assert "They differ." in ended.err
    assert not any(tmp_path.iterdir())


def test_a_comparison_that_fails_later_tells_why(compared: Suite, lathe: Lathe) -> None:
    failure = failure_pb2.Failure(message="They are too large.", suggested_fix="Compare fewer.")
    compared.answers["WatchEvaluationComparison"] = [
        EvaluationComparison(name="evaluationComparisons/c", state=OPERATION_STATE_FAILED, failure=failure)
    ]
    ended = lathe("compare", "a", "b")
    assert ended.code == 5
    assert "They are too large. Compare fewer." in ended.err


def test_figures_of_an_import_are_read() -> None:
    for text, values in (
        ("top1=0.97", ("top1", "", 0.97)),
        ("top1@scene=night=0.9", ("top1", "scene=night", 0.9)),
        ("recall/7 = 1e-2", ("recall/7", "", 0.01)),
    ):
        metric = parse_metric(text)
        assert (metric.name, metric.slice, metric.value) == values
    for wrong in ("", "top1", "top1=", "=1", "top1=x", "top1=nan"):
        with pytest.raises(CliError, match="NAME=VALUE"):
            parse_metric(wrong)
