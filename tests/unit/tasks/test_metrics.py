"""What is counted of the steps of tasks, and how owners are kept few."""

from __future__ import annotations

import time
from typing import Any

import pytest
import uuid_utils.compat
from google.protobuf.timestamp_pb2 import Timestamp
from lathe.internal.v1 import event_pb2
from lathe.type.v1 import failure_pb2, task_pb2
from prometheus_client import REGISTRY

from services.tasks.api.gauges import OTHERS, TOP_OWNERS, by_top_owners
from services.tasks.api.metrics import count_step
from services.tasks.state import commands
from services.tasks.state.machine import TaskSnapshot, apply, pending
from services.tasks.state.standing import Load

UID = uuid_utils.compat.uuid7()
CREATED = (UID.int >> 80) / 1000


def event(seconds: float, attempt: int = 1, **kind: Any) -> event_pb2.TaskEvent:
    moment = Timestamp()
    moment.FromNanoseconds(int((CREATED + seconds) * 1e9))
    return event_pb2.TaskEvent(attempt=attempt, worker="w", time=moment, **kind)


def times(**seconds: float) -> list[task_pb2.StageTime]:
    found = []
    for name, value in seconds.items():
        entry = task_pb2.StageTime(stage=failure_pb2.TaskStage.Value(f"TASK_STAGE_{name.upper()}"))
        entry.duration.FromNanoseconds(int(value * 1e9))
        found.append(entry)
    return found


def count(device: str, *steps: Any) -> TaskSnapshot:
    """Apply steps one by one, and count those that change the task, which are written."""
    task = TaskSnapshot(pending(), max_attempts=2)
    for step in steps:
        after, _ = apply(task, step)
        if after is not task:
            count_step("toy", UID, device, task, after)
        task = after
    return task


def value(metric: str, device: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(metric, {"kind": "toy", "device": device, **labels})


def test_a_success_is_counted_with_its_times_and_its_memory() -> None:
    task = count(
        "d1",
        event(2, started=event_pb2.TaskStarted(device="d1")),
        event(
            12,
            succeeded=event_pb2.TaskSucceeded(),
            stage_times=times(fetching_inputs=1, executing=8, uploading_outputs=1),
            peak_memory_bytes=100 << 20,
        ),
        commands.Completed(event(13).time, 1),
    )
    assert [(each.stage, each.duration.seconds) for each in task.attempts[0].stage_times] == [(1, 1), (2, 8), (3, 1)]
    assert task.attempts[0].peak_memory_bytes == 100 << 20
    assert value("lathe_task_wait_seconds_sum", "d1") == pytest.approx(2, abs=0.01)
    assert value("lathe_task_stage_seconds_sum", "d1", stage="executing") == 8
    assert value("lathe_task_stage_seconds_sum", "d1", stage="registering") == pytest.approx(1, abs=0.01)
    assert value("lathe_attempt_peak_memory_bytes_bucket", "d1", le="1.34217728e+08") == 1
    assert value("lathe_attempt_peak_memory_bytes_bucket", "d1", le="6.7108864e+07") == 0
    assert value("lathe_tasks_ended_total", "d1", state="succeeded") == 1
    assert value("lathe_attempts_ended_total", "d1", outcome="succeeded") == 1


def test_every_attempt_counts_and_the_task_fails_once() -> None:
    failure = failure_pb2.Failure(reason=failure_pb2.FAILURE_REASON_OUT_OF_MEMORY, retryable=True)
    count(
        "d2",
        event(1, started=event_pb2.TaskStarted(device="d2")),
        # The first was not heard of again, which is known only by the next one.
        event(2, 2, failed=event_pb2.TaskFailed(failure=failure), stage_times=times(fetching_inputs=1)),
    )
    assert value("lathe_attempts_ended_total", "d2", outcome="lost") == 1
    assert value("lathe_attempts_ended_total", "d2", outcome="failed") == 1
    assert value("lathe_task_failures_total", "d2", reason="out_of_memory") == 1
    assert value("lathe_task_wait_seconds_count", "d2") == 1


def test_a_repeated_event_counts_nothing() -> None:
    done = event(2, succeeded=event_pb2.TaskSucceeded(), stage_times=times(executing=1))
    ended = commands.Completed(event(3).time, 1)
    count("d3", done, done, ended, ended, done)
    assert value("lathe_tasks_ended_total", "d3", state="succeeded") == 1
    assert value("lathe_task_stage_seconds_count", "d3", stage="executing") == 1


def test_a_cancelled_task_that_never_ran_has_no_wait() -> None:
    count("d4", commands.Cancel(event(1).time))
    assert value("lathe_tasks_ended_total", "d4", state="cancelled") == 1
    assert value("lathe_task_wait_seconds_count", "d4") is None


def test_all_but_the_top_owners_are_taken_together() -> None:
    loads = {("d", f"owner {number:03}"): Load(waiting=number, running=1) for number in range(200)}
    loads["e", "owner 000"] = Load(waiting=1000)
    shown = by_top_owners(loads)
    assert len(shown) == TOP_OWNERS + 2
    assert ("e", "owner 000") in shown
    assert ("d", "owner 199") in shown
    assert ("d", "owner 100") not in shown
    assert sum(load.waiting for load in shown.values()) == sum(load.waiting for load in loads.values())
    assert shown["d", OTHERS].running == 200 - TOP_OWNERS


def test_the_clock_of_the_uid_is_the_clock_of_the_day() -> None:
    assert abs(CREATED - time.time()) < 3600
