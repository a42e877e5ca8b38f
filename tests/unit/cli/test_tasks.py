from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import grpc
import pytest
from lathe.converter.v1.conversion_service_pb2 import ConversionTask, ListConversionTasksResponse
from lathe.evaluator.v1.evaluation_service_pb2 import (
    BatchCancelEvaluationTasksResponse,
    BatchDeleteEvaluationTasksResponse,
    EvaluationResult,
    EvaluationTask,
    ListEvaluationTasksResponse,
    Metric,
)
from lathe.optimizer.v1.optimization_service_pb2 import ListOptimizationTasksResponse
from lathe.optimizer.v1.profile_service_pb2 import ListProfileTasksResponse
from lathe.quantizer.v1.quantization_service_pb2 import (
    BatchCancelQuantizationTasksResponse,
    BatchDeleteQuantizationTasksResponse,
    ListQuantizationTasksResponse,
    QuantizationResult,
    QuantizationTask,
)
from lathe.type.v1 import batch_pb2, failure_pb2, task_pb2
from lathe.type.v1.error_reason_pb2 import ERROR_REASON_TASK_ENDED, ERROR_REASON_TASK_NOT_ENDED
from lathe.watch.v1.change_pb2 import CHANGE_TYPE_DELETED, CHANGE_TYPE_UPDATED, Change, TaskSummary
from lathe.watch.v1.watch_service_pb2 import WatchTasksResponse
from lathe_client import calls
from lathe_client.tasks import KINDS, kind_of

from tests.unit.cli.conftest import Lathe
from tests.unit.cli.suite import RefusedError, Suite

VERBS = (
    *("Create", "Get", "BatchGet", "List", "Update", "Cancel", "BatchCancel", "Retry", "Resubmit"),
    *("Delete", "BatchDelete", "Watch", "Logs"),
)


def made(kind: Any, name: str, state: Any = task_pb2.TASK_STATE_SUCCEEDED, seconds: int = 0, **fields: Any) -> Any:
    task = kind(name=name, status=task_pb2.TaskStatus(state=state), **fields)
    task.create_time.seconds = 1_700_000_000 + seconds
    return task


def quantization(name: str = "q1", **fields: Any) -> Any:
    return made(QuantizationTask, f"quantizationTasks/{name}", **fields)


@pytest.fixture
def three(suite: Suite) -> Suite:
    """A task of each of three kinds, the newest a quantization."""
    result = EvaluationResult(metrics=[Metric(name="top1", value=0.97)], main_metric="top1")
    evaluation = made(EvaluationTask, "evaluationTasks/e1", seconds=1, result=result)
    converted = made(ConversionTask, "conversionTasks/c1", seconds=0)
    quantized = quantization(seconds=2, result=QuantizationResult(model_version="models/digits/versions/4"))
    suite.answers |= {
        "ListConversionTasks": ListConversionTasksResponse(tasks=[converted]),
        "ListQuantizationTasks": ListQuantizationTasksResponse(tasks=[quantized]),
        "ListOptimizationTasks": ListOptimizationTasksResponse(),
        "ListProfileTasks": ListProfileTasksResponse(),
        "ListEvaluationTasks": ListEvaluationTasksResponse(tasks=[evaluation]),
        "GetQuantizationTask": lambda request: quantization() if request.name == "quantizationTasks/q1" else _gone(),
    }
    return suite


def _gone() -> RefusedError:
    return RefusedError(grpc.StatusCode.NOT_FOUND, "There is none.")


@pytest.mark.parametrize("service", KINDS.values(), ids=lambda each: each.name)
def test_every_verb_has_its_request_and_every_task_the_fields_in_use(service: Any) -> None:
    for verb in VERBS:
        assert service.request(verb).DESCRIPTOR.name.endswith("Request")
    task = service.message(f"{service.name.capitalize()}Task")
    read = {"name", "display_name", "status", "origin", "result", "device", "owner", "create_time"}
    assert read <= set(task.DESCRIPTOR.fields_by_name)


def test_a_task_is_served_by_the_service_of_its_name() -> None:
    assert kind_of("evaluationTasks/1").service == "evaluator"
    with pytest.raises(ValueError, match="is not a task; task names are conversionTasks/…, quantizationTasks/…"):
        kind_of("models/digits")


def test_tasks_of_every_kind_are_listed_the_newest_first(three: Suite, lathe: Lathe) -> None:
    ended = lathe("tasks", "list", "-o", "json")
    assert [task["name"] for task in json.loads(ended.out)] == [
        "quantizationTasks/q1",
        "evaluationTasks/e1",
        "conversionTasks/c1",
    ]
    table = lathe("tasks", "list").out
    assert "digits/4" in table
    assert "top1 0.9700" in table
    assert len(json.loads(lathe("tasks", "list", "--limit", "2", "-o", "json").out)) == 2


def test_a_table_of_tasks_has_few_words_for_a_failure(three: Suite, lathe: Lathe) -> None:
    failed = quantization(state=task_pb2.TASK_STATE_FAILED)
    failed.status.failure.CopyFrom(
        failure_pb2.Failure(
            reason=failure_pb2.FAILURE_REASON_OUTPUT_MISMATCH, message="first " + "word " * 200 + "last"
        )
    )
    three.answers["ListQuantizationTasks"] = ListQuantizationTasksResponse(tasks=[failed])
    table = lathe("tasks", "list", "--kind", "quantization").out
    assert "first" in table
    assert "last" not in table
    assert table.count("word") < 20
    assert "quantization" in table
    words = json.loads(lathe("tasks", "list", "--kind", "quantization", "-o", "json").out)
    assert words[0]["status"]["failure"]["message"].endswith("last")


def test_with_an_order_tasks_are_listed_kind_by_kind(three: Suite, lathe: Lathe) -> None:
    ended = lathe("tasks", "list", "--order-by", "state", "-o", "json")
    assert [task["name"][0] for task in json.loads(ended.out)] == ["c", "q", "e"]
    assert three.asked["ListEvaluationTasks"][0].order_by == "state"


def test_filters_go_to_the_services(three: Suite, lathe: Lathe) -> None:
    words = ["--kind", "quantization", "--search", "dig", "--mine", "--label", "a=b", "--state", "failed"]
    words += ["--device", "cpu-x86-64", "--uses", "datasets/digits"]
    assert lathe("tasks", "list", *words).code == 0
    assert set(three.asked) == {"ListQuantizationTasks"}
    asked = three.asked["ListQuantizationTasks"][0]
    assert (asked.search, asked.mine_only) == ("dig", True)
    assert asked.filter == (
        'labels."a" = "b" AND state:("FAILED") AND device:("cpu-x86-64") AND uses:("datasets/digits")'
    )


@pytest.mark.parametrize(
    ("words", "said"), [(["--kind", "x"], "'x' is not a kind of task"), (["--state", "x"], "'x' is not a state")]
)
def test_unknown_kinds_and_states_are_rejected(three: Suite, lathe: Lathe, words: list[str], said: str) -> None:
    ended = lathe("tasks", "list", *words)
    assert ended.code == 2
    assert said in ended.err
    assert not three.asked


def test_a_task_is_found_by_its_id_alone(three: Suite, lathe: Lathe) -> None:
    ended = lathe("tasks", "get", "q1", "-o", "json")
    assert json.loads(ended.out)["name"] == "quantizationTasks/q1"
    assert three.asked["GetConversionTask"][0].name == "conversionTasks/q1"


def test_a_task_that_no_service_knows_is_not_found(three: Suite, lathe: Lathe) -> None:
    ended = lathe("tasks", "get", "nobody")
    assert (ended.code, ended.err) == (3, "error: No service has a task with the id 'nobody'.\n")


def test_a_service_that_does_not_answer_is_reported(three: Suite, lathe: Lathe) -> None:
    three.answers["GetConversionTask"] = RefusedError(grpc.StatusCode.PERMISSION_DENIED, "Not for you.")
    ended = lathe("tasks", "get", "q1")
    assert ended.code == 8
    assert "Not for you." in ended.err


def test_a_task_that_ended_is_shown_with_its_result_or_failure(three: Suite, lathe: Lathe) -> None:
    done = quantization(result=QuantizationResult(model_version="models/digits/versions/4"))
    three.answers["GetQuantizationTask"] = done
    assert "quantizationTasks/q1 made digits/4" in lathe("tasks", "get", "quantizationTasks/q1").err
    failed = quantization(state=task_pb2.TASK_STATE_FAILED)
    failed.status.failure.CopyFrom(
        failure_pb2.Failure(
            stage=failure_pb2.TASK_STAGE_EXECUTING,
            reason=failure_pb2.FAILURE_REASON_INVALID_DATA,
            message="It is empty.",
            node="conv1",
            operator="Conv",
            evidence="0 items",
        )
    )
    three.answers["GetQuantizationTask"] = failed
    ended = lathe("tasks", "get", "quantizationTasks/q1")
    assert ended.code == 0
    for line in (
        "error: INVALID_DATA: It is empty.",
        "stage: EXECUTING",
        "node: conv1",
        "operator: Conv",
        "evidence: 0 items",
        "log: lathe tasks logs quantizationTasks/q1",
    ):
        assert line in ended.err
    assert "what to do" not in ended.err


@pytest.mark.parametrize(
    ("state", "code"),
    [(task_pb2.TASK_STATE_SUCCEEDED, 0), (task_pb2.TASK_STATE_FAILED, 5), (task_pb2.TASK_STATE_CANCELLED, 6)],
)
@pytest.mark.parametrize("output", ["table", "json"])
def test_watching_ends_with_the_task(three: Suite, lathe: Lathe, state: Any, code: int, output: str) -> None:
    three.answers["WatchQuantizationTask"] = [
        quantization(state=task_pb2.TASK_STATE_RUNNING),
        quantization(state=state),
    ]
    ended = lathe("tasks", "watch", "quantizationTasks/q1", "-o", output)
    assert ended.code == code
    if output == "json":
        states = [json.loads(line)["status"]["state"] for line in ended.out.splitlines()]
        assert states == ["TASK_STATE_RUNNING", task_pb2.TaskState.Name(state)]
    if state == task_pb2.TASK_STATE_CANCELLED and output == "table":
        assert "quantizationTasks/q1 is CANCELLED" in ended.err


def test_many_are_watched_and_the_first_to_go_wrong_tells_the_code(three: Suite, lathe: Lathe) -> None:
    ends = {"q1": task_pb2.TASK_STATE_SUCCEEDED, "q2": task_pb2.TASK_STATE_CANCELLED, "q3": task_pb2.TASK_STATE_FAILED}
    three.answers["WatchQuantizationTask"] = lambda request: [quantization(state=ends[request.name[-2:]])]
    names = [f"quantizationTasks/{name}" for name in ends]
    assert lathe("tasks", "watch", *names).code == 6
    assert [request.name for request in three.asked["WatchQuantizationTask"]] == names


@pytest.mark.parametrize("output", ["table", "json"])
def test_events_are_printed_and_resumed(
    three: Suite, lathe: Lathe, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    monkeypatch.setattr(calls, "RECONNECT_PAUSES", (0.01,))
    change = Change(name="quantizationTasks/q1", type=CHANGE_TYPE_UPDATED)
    change.task.CopyFrom(
        TaskSummary(display_name="the first", status=task_pb2.TaskStatus(state=task_pb2.TASK_STATE_RUNNING))
    )
    gone = Change(name="quantizationTasks/q2", type=CHANGE_TYPE_DELETED, task=TaskSummary(display_name="the second"))
    away = RefusedError(grpc.StatusCode.UNAVAILABLE, "Restarting.")
    beat, news = WatchTasksResponse(resume_token="1.1"), WatchTasksResponse(changes=[change], resume_token="1.2")
    streams = iter([[beat, news, away], [WatchTasksResponse(changes=[gone], resume_token="1.3")]])
    three.answers["WatchTasks"] = lambda _: next(streams)
    ended = lathe("events", "--kind", "quantization", "--label", "team=x", "--mine", "--existing", "-o", output)
    assert ended.code == 0
    first, second = ended.out.splitlines()
    assert "quantizationTasks/q1" in first
    assert "quantizationTasks/q2" in second
    if output == "table":
        assert ("RUNNING" in first, "the first" in first, "DELETED" in second) == (True, True, True)
    asked, again = three.asked["WatchTasks"]
    assert (list(asked.kinds), asked.filter, asked.mine_only) == (["quantization"], 'labels."team" = "x"', True)
    assert (asked.send_existing, asked.resume_token, again.resume_token) == (True, "", "1.2")


def test_get_shows_what_each_attempt_took(three: Suite, lathe: Lathe) -> None:
    lost = task_pb2.Attempt(number=1, worker="host-1", outcome=task_pb2.ATTEMPT_OUTCOME_LOST)
    done = task_pb2.Attempt(number=2, worker="host-2", outcome=task_pb2.ATTEMPT_OUTCOME_SUCCEEDED)
    done.peak_memory_bytes = 3 << 29
    done.stage_times.add(stage=failure_pb2.TASK_STAGE_EXECUTING).duration.FromMilliseconds(8200)
    three.answers["GetQuantizationTask"] = quantization(attempts=[lost, done])
    first, second = [line for line in lathe("tasks", "get", "quantizationTasks/q1").out.splitlines() if "host-" in line]
    assert "LOST" in first
    for word in ("SUCCEEDED", "executing 8.2 s", "1.5 GiB"):
        assert word in second


def test_events_go_on_where_an_earlier_run_was_stopped(three: Suite, lathe: Lathe, tmp_path: Path) -> None:
    kept = tmp_path / "events.token"
    change = Change(name="quantizationTasks/q1", type=CHANGE_TYPE_UPDATED, task=TaskSummary(display_name="the first"))
    three.answers["WatchTasks"] = [
        WatchTasksResponse(resume_token="1.1"),
        WatchTasksResponse(changes=[change], resume_token="1.2"),
    ]
    words = ("events", "--kind", "profile", "--kind", "conversion", "--device", "cpu-arm64", "--resume", str(kept))
    assert lathe(*words).code == 0
    assert kept.read_text() == "1.2\n"
    lathe(*words)
    first, second = three.asked["WatchTasks"]
    assert (first.resume_token, second.resume_token) == ("", "1.2")
    assert (list(first.kinds), first.filter) == (["profile", "conversion"], 'device:("cpu-arm64")')
    assert [path.name for path in tmp_path.iterdir()] == ["events.token"]


def test_events_that_are_gone_are_told_with_the_file_to_remove(three: Suite, lathe: Lathe, tmp_path: Path) -> None:
    kept = tmp_path / "events.token"
    kept.write_text("1.2\n")
    expired = "Changes are kept for 7 days."
    three.answers["WatchTasks"] = [RefusedError(grpc.StatusCode.FAILED_PRECONDITION, expired, reason="WATCH_EXPIRED")]
    ended = lathe("events", "--resume", str(kept))
    assert ended.code != 0
    assert f"{expired} Here, the token is that of {kept}: remove the file." in " ".join(ended.err.split())


def test_a_broken_watch_is_resumed(three: Suite, lathe: Lathe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "RECONNECT_PAUSES", (0.01,))
    running, done = quantization(state=task_pb2.TASK_STATE_RUNNING), quantization()
    running.status.revision, done.status.revision = 7, 8
    away = RefusedError(grpc.StatusCode.UNAVAILABLE, "Restarting.")
    streams = iter([[running, away], [done]])
    three.answers["WatchQuantizationTask"] = lambda _: next(streams)
    assert lathe("tasks", "watch", "quantizationTasks/q1").code == 0
    assert [request.after_revision for request in three.asked["WatchQuantizationTask"]] == [0, 7]


def test_a_watch_ends_if_the_service_stays_away(three: Suite, lathe: Lathe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "RECONNECT_PAUSES", (0.01, 0.01))
    three.answers["WatchQuantizationTask"] = RefusedError(grpc.StatusCode.UNAVAILABLE, "lathe restarts.")
    assert lathe("tasks", "watch", "quantizationTasks/q1").code == 4
    assert len(three.asked["WatchQuantizationTask"]) == 3


def test_logs_are_printed_as_they_arrive(three: Suite, lathe: Lathe) -> None:
    line = task_pb2.LogLine(number=1, text="[converting] …")
    line.time.seconds = 1_700_000_000
    three.answers["StreamQuantizationTaskLogs"] = [task_pb2.LogLines(lines=[line])]
    ended = lathe("tasks", "logs", "q1", "--attempt", "2", "-f", "--tail", "5")
    assert ended.out.endswith(" [converting] …\n")
    asked = three.asked["StreamQuantizationTaskLogs"][0]
    assert (asked.name, asked.attempt, asked.follow) == ("quantizationTasks/q1", 2, True)
    assert asked.tail_lines == 5
    assert json.loads(lathe("tasks", "logs", "q1", "-o", "json").out)["text"] == "[converting] …"


def test_cancel_and_retry_show_the_resulting_task(three: Suite, lathe: Lathe) -> None:
    three.answers["CancelQuantizationTask"] = quantization(state=task_pb2.TASK_STATE_CANCELLING)
    three.answers["RetryQuantizationTask"] = quantization("q2", state=task_pb2.TASK_STATE_PENDING)
    assert "CANCELLING" in lathe("tasks", "cancel", "q1").out
    assert "q2" in lathe("tasks", "retry", "q1", "--skip-cache").out
    assert three.asked["RetryQuantizationTask"][0].skip_cache


def test_many_tasks_are_cancelled_kind_by_kind(three: Suite, lathe: Lathe) -> None:
    why = ERROR_REASON_TASK_ENDED
    error = batch_pb2.BatchError(name="evaluationTasks/e1", reason=why, message="It is SUCCEEDED already.")
    three.answers["BatchCancelQuantizationTasks"] = BatchCancelQuantizationTasksResponse(
        cancelled=["quantizationTasks/q1"]
    )
    three.answers["BatchCancelEvaluationTasks"] = BatchCancelEvaluationTasksResponse(errors=[error])
    ended = lathe("tasks", "cancel", "q1", "evaluationTasks/e1")
    assert ended.code == 7
    assert "cancelled quantizationTasks/q1" in ended.err
    assert "evaluationTasks/e1: It is SUCCEEDED already. [TASK_ENDED]" in ended.err


def test_tasks_are_deleted_kind_by_kind_and_failures_are_reported(three: Suite, lathe: Lathe) -> None:
    why = ERROR_REASON_TASK_NOT_ENDED
    error = batch_pb2.BatchError(name="quantizationTasks/q2", reason=why, message="It is RUNNING.")
    three.answers["BatchDeleteQuantizationTasks"] = BatchDeleteQuantizationTasksResponse(
        deleted=["quantizationTasks/q1"], errors=[error]
    )
    three.answers["BatchDeleteEvaluationTasks"] = BatchDeleteEvaluationTasksResponse()
    ended = lathe("tasks", "delete", "q1", "evaluationTasks/e1", "quantizationTasks/q2")
    assert ended.code == 7
    assert list(three.asked["BatchDeleteQuantizationTasks"][0].names) == [
        "quantizationTasks/q1",
        "quantizationTasks/q2",
    ]
    assert list(three.asked["BatchDeleteEvaluationTasks"][0].names) == ["evaluationTasks/e1"]
    assert "deleted quantizationTasks/q1" in ended.err
    assert "quantizationTasks/q2: It is RUNNING. [TASK_NOT_ENDED]" in ended.err
