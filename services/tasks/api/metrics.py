"""What Prometheus counts about tasks: each transition once, in the replica that wrote it."""

from __future__ import annotations

from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp
from lathe.type.v1 import failure_pb2, task_pb2
from prometheus_client import Counter, Histogram

from services.tasks.state.machine import TERMINAL, TaskSnapshot

_OF_QUEUE = ["kind", "device"]
_SECONDS = (0.01, 0.05, 0.2, 0.5, 1, 2.5, 5, 10, 20, 40, 90, 180, 360, 900, 3600, 14400)
_MEBIBYTE = 1 << 20

CREATED = Counter(
    "lathe_tasks_created",
    "Tasks that were created, by how: queued; shared, which follow an equal task in flight; cached, which end at once "
    "with the result of an equal task; imported, which were made elsewhere.",
    [*_OF_QUEUE, "how"],
)
ENDED = Counter("lathe_tasks_ended", "Tasks that ended, by state.", [*_OF_QUEUE, "state"])
FAILURES = Counter("lathe_task_failures", "Tasks that FAILED, by reason.", [*_OF_QUEUE, "reason"])
ATTEMPTS = Counter("lathe_attempts_ended", "Attempts that ended, by outcome.", [*_OF_QUEUE, "outcome"])
WAIT = Histogram(
    "lathe_task_wait_seconds",
    "Time from creation until the first worker claimed the task.",
    _OF_QUEUE,
    buckets=_SECONDS,
)
STAGES = Histogram(
    "lathe_task_stage_seconds",
    "Time that attempts were in each stage; registering is measured by the clocks of worker and service.",
    [*_OF_QUEUE, "stage"],
    buckets=_SECONDS,
)
MEMORY = Histogram(
    "lathe_attempt_peak_memory_bytes",
    "The most memory that the processes of an attempt held at once.",
    _OF_QUEUE,
    buckets=[_MEBIBYTE << power for power in range(6, 18)],
)

_REGISTERING = "registering"
_OPEN = task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED


def count_created(kind: str, device: str, how: str) -> None:
    """Count a task that was created: `queued`, `shared`, `cached` or `imported`."""
    CREATED.labels(kind, device, how).inc()


def count_step(kind: str, uid: UUID, device: str, before: TaskSnapshot, after: TaskSnapshot) -> None:
    """Count a step of the state machine, once it is written.

    Args:
        kind: Of the task.
        uid: Of the task, a version 7 UUID, which says when it was created.
        device: That the task is for.
        before: The task before the step.
        after: The task after it.
    """
    if after.attempts and not before.attempts:
        # The version 7 of UUIDs begins with milliseconds since 1970.
        waited = _seconds(after.attempts[0].start_time) - (uid.int >> 80) / 1000
        WAIT.labels(kind, device).observe(max(waited, 0.0))
    for index, attempt in enumerate(after.attempts):
        was_open = index >= len(before.attempts) or before.attempts[index].outcome == _OPEN
        if was_open and attempt.outcome != _OPEN:
            _count_attempt(kind, device, attempt)
    state = after.status.state
    if state in TERMINAL:
        ENDED.labels(kind, device, _word(task_pb2.TaskState.Name(state), "TASK_STATE_")).inc()
        if state == task_pb2.TASK_STATE_FAILED:
            reason = failure_pb2.FailureReason.Name(after.status.failure.reason)
            FAILURES.labels(kind, device, _word(reason, "FAILURE_REASON_")).inc()


def _count_attempt(kind: str, device: str, attempt: task_pb2.Attempt) -> None:
    ATTEMPTS.labels(kind, device, _word(task_pb2.AttemptOutcome.Name(attempt.outcome), "ATTEMPT_OUTCOME_")).inc()
    worked = 0.0
    for entry in attempt.stage_times:
        seconds = entry.duration.seconds + entry.duration.nanos / 1e9
        worked += seconds
        STAGES.labels(kind, device, _word(failure_pb2.TaskStage.Name(entry.stage), "TASK_STAGE_")).observe(seconds)
    if attempt.outcome == task_pb2.ATTEMPT_OUTCOME_SUCCEEDED and attempt.stage_times:
        recorded = _seconds(attempt.end_time) - _seconds(attempt.start_time) - worked
        STAGES.labels(kind, device, _REGISTERING).observe(max(recorded, 0.0))
    if attempt.peak_memory_bytes:
        MEMORY.labels(kind, device).observe(attempt.peak_memory_bytes)


def _seconds(moment: Timestamp) -> float:
    return moment.seconds + moment.nanos / 1e9


def _word(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower()
