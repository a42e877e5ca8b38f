"""The effect of workers' events on a task: the first half of the state machine (see `machine` for its rules). Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lathe.internal.v1 import event_pb2
from lathe.type.v1 import failure_pb2, task_pb2

from services.tasks.state.snapshot import (
    Effect,
    Step,
    TaskSnapshot,
    closed,
    copy,
    end,
    logged,
    measured,
    ran_with,
    try_again,
    waiting,
)


def apply_event(task: TaskSnapshot, event: event_pb2.TaskEvent) -> Step:
    """Return the task after an event, which may be late or repeated; the task has not ended."""
    handler = _EVENTS.get(event.WhichOneof("event") or "")
    if handler is None or event.attempt < 1:
        return task, ()
    unknown = event.attempt > task.attempt and task.status.state == task_pb2.TASK_STATE_CANCELLING
    if unknown and handler in (_succeeded, _failed):
        # All workers are told which tasks are cancelled, so that any can speak of one. Its work is not wanted any more.
        handler = _cancelled
    claimed = _claim(task, event)
    if claimed is None:
        return task, ()
    return handler(measured(claimed, event), event)


def _claim(task: TaskSnapshot, event: event_pb2.TaskEvent) -> TaskSnapshot | None:
    """Return the task with the event's attempt as its newest, open one; None if the event is stale."""
    if event.attempt > task.attempt:
        return _begin_attempt(task, event)
    newest = task.attempts[-1]
    if event.attempt < newest.number or event.worker != newest.worker:
        return None
    if newest.outcome == task_pb2.ATTEMPT_OUTCOME_LOST:
        return _revive(task)
    return task if newest.outcome == task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED else None


def _begin_attempt(task: TaskSnapshot, event: event_pb2.TaskEvent) -> TaskSnapshot:
    attempts = task.attempts
    if attempts and attempts[-1].outcome == task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED:
        attempts = closed(task, task_pb2.ATTEMPT_OUTCOME_LOST, event.time)
    begun = task_pb2.Attempt(number=event.attempt, worker=event.worker, start_time=event.time)
    begun.device = event.started.device
    status = copy(task.status)
    status.state = task_pb2.TASK_STATE_RUNNING if status.state == task_pb2.TASK_STATE_PENDING else status.state
    status.stage = failure_pb2.TASK_STAGE_FETCHING_INPUTS
    status.progress = 0.0
    status.message = ""
    status.pending_reason = ""
    if not status.HasField("start_time"):
        status.start_time.CopyFrom(event.time)
    return task._replace(status=status, attempts=(*attempts, begun), follows="")


def _revive(task: TaskSnapshot) -> TaskSnapshot:
    again = task_pb2.Attempt()
    again.CopyFrom(task.attempts[-1])
    again.outcome = task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED
    again.ClearField("end_time")
    again.ClearField("stage")
    again.ClearField("progress")
    status = copy(task.status)
    status.state = task_pb2.TASK_STATE_RUNNING if status.state == task_pb2.TASK_STATE_PENDING else status.state
    status.stage = task.attempts[-1].stage or failure_pb2.TASK_STAGE_FETCHING_INPUTS
    status.progress = task.attempts[-1].progress
    return task._replace(status=status, attempts=(*task.attempts[:-1], again))


def _started(task: TaskSnapshot, event: event_pb2.TaskEvent) -> Step:
    if task.attempts[-1].device or not event.started.device:
        return task, ()
    attempt = task_pb2.Attempt()
    attempt.CopyFrom(task.attempts[-1])
    attempt.device = event.started.device
    return task._replace(attempts=(*task.attempts[:-1], attempt)), ()


def _progressed(task: TaskSnapshot, event: event_pb2.TaskEvent) -> Step:
    news, old = event.progressed, task.status
    progress = max(old.progress, min(news.progress, 1.0))
    unchanged = (news.stage, progress, news.message) == (old.stage, old.progress, old.message)
    if news.stage < old.stage or unchanged:
        return task, ()
    status = copy(old)
    status.stage = news.stage
    status.progress = progress
    status.message = news.message
    return task._replace(status=status), ()


def _succeeded(task: TaskSnapshot, event: event_pb2.TaskEvent) -> Step:
    if task.status.stage == failure_pb2.TASK_STAGE_REGISTERING:
        return task, (Effect.COMPLETE,)
    status = copy(task.status)
    status.stage = failure_pb2.TASK_STAGE_REGISTERING
    status.progress = 1.0
    status.message = "recording the result"
    task = task._replace(status=status, attempts=logged(task, event.succeeded.log))
    return task._replace(attempts=ran_with(task, event.succeeded.environment_json)), (Effect.COMPLETE,)


def _failed(task: TaskSnapshot, event: event_pb2.TaskEvent) -> Step:
    failure = event.failed.failure
    task = task._replace(attempts=logged(task, event.failed.log))
    task = task._replace(attempts=closed(task, task_pb2.ATTEMPT_OUTCOME_FAILED, event.time, failure))
    if not failure.retryable:
        return end(task, task_pb2.TASK_STATE_FAILED, event.time, failure)
    return try_again(task, event.time, failure)


def _cancelled(task: TaskSnapshot, event: event_pb2.TaskEvent) -> Step:
    said: Any = getattr(event, event.WhichOneof("event") or "cancelled")
    task = task._replace(attempts=logged(task, said.log))
    task = task._replace(attempts=closed(task, task_pb2.ATTEMPT_OUTCOME_CANCELLED, event.time))
    return end(task, task_pb2.TASK_STATE_CANCELLED, event.time)


def _returned(task: TaskSnapshot, event: event_pb2.TaskEvent) -> Step:
    if task.status.stage == failure_pb2.TASK_STAGE_REGISTERING:
        return task, ()
    task = task._replace(attempts=logged(task, event.returned.log))
    task = task._replace(attempts=closed(task, task_pb2.ATTEMPT_OUTCOME_RETURNED, event.time))
    if task.status.state == task_pb2.TASK_STATE_CANCELLING:
        return end(task, task_pb2.TASK_STATE_CANCELLED, event.time)
    return waiting(task, f"The worker {event.worker} was stopped and returned the task; it starts again."), (
        Effect.DISPATCH,
    )


_EVENTS: dict[str, Callable[[TaskSnapshot, event_pb2.TaskEvent], Step]] = {
    "started": _started,
    "progressed": _progressed,
    "succeeded": _succeeded,
    "failed": _failed,
    "cancelled": _cancelled,
    "returned": _returned,
}
