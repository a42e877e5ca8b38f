"""The state machine of a task: pure, without I/O.

    PENDING ─claim→ RUNNING ─→ SUCCEEDED | FAILED
       │ ▲            └─ retryable failure or lost lease, attempt < max ─→ PENDING
       ├─ cache hit ─→ SUCCEEDED        └─ dead letter ─→ FAILED
    PENDING | RUNNING ─Cancel→ CANCELLING → CANCELLED | SUCCEEDED | FAILED

Rules:

1.  Terminal states absorb: nothing changes a SUCCEEDED, FAILED or CANCELLED task.
2.  Attempts only grow. An event of an attempt older than the newest is ignored, and so is one of the newest attempt
    that comes from another worker, or after the attempt ended.
3.  The first event of a newer attempt claims the task, whichever it is: `started` may be late or lost. An attempt that
    was still open then is ATTEMPT_LOST.
4.  An attempt given up as ATTEMPT_LOST revives when its worker is heard of again and no newer attempt has begun.
5.  Within an attempt, stage and progress never go back; an event that would take them back is ignored.
6.  `succeeded` moves to the stage REGISTERING and asks for COMPLETE; only `Completed`, of the same attempt, makes the
    task SUCCEEDED. A repeat of `succeeded` asks again: completing is idempotent.
7.  A retryable failure or a lost worker returns the task to PENDING while attempts remain, and fails it otherwise.
8.  Cancel ends a PENDING task at once, and makes a RUNNING one CANCELLING. From CANCELLING every end of an attempt ends
    the task: success and permanent failure stand as they are, anything else is CANCELLED.
9.  A follower is PENDING without a message of its own; it ends with its leader or is promoted and then runs itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lathe.type.v1 import event_pb2, failure_pb2, task_pb2

from services.common.tasks.commands import (
    Cancel,
    CancelExpired,
    Command,
    Completed,
    CompletionFailed,
    DeadLettered,
    LeaderFailed,
    LeaderSucceeded,
    Promote,
    WorkerLost,
)
from services.common.tasks.snapshot import (
    OPEN,
    TERMINAL,
    Effect,
    Step,
    TaskSnapshot,
    close_open,
    closed,
    copy,
    end,
    logged,
    lost_failure,
    pending,
    try_again,
)

__all__ = ["OPEN", "TERMINAL", "Effect", "Event", "Step", "TaskSnapshot", "apply", "pending"]

Event = event_pb2.TaskEvent | Command


def apply(task: TaskSnapshot, event: Event) -> Step:
    """Return the task after the event and what to do about it; the very same task where the event changes nothing."""
    if task.terminal:
        return task, ()
    if isinstance(event, event_pb2.TaskEvent):
        return _apply_event(task, event)
    handler = _COMMANDS[type(event)]
    return handler(task, event)


def _apply_event(task: TaskSnapshot, event: event_pb2.TaskEvent) -> Step:
    handler = _EVENTS.get(event.WhichOneof("event") or "")
    if handler is None or event.attempt < 1:
        return task, ()
    claimed = _claim(task, event)
    if claimed is None:
        return task, ()
    return handler(claimed, event)


def _claim(task: TaskSnapshot, event: event_pb2.TaskEvent) -> TaskSnapshot | None:
    """Return the task with the event's attempt as its newest, open one; None where the event is stale."""
    if event.attempt > task.attempt:
        return _begin_attempt(task, event)
    newest = task.attempts[-1]
    if event.attempt < newest.number or event.worker != newest.worker:
        return None
    if newest.outcome == task_pb2.ATTEMPT_LOST:
        return _revive(task)
    return task if newest.outcome == task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED else None


def _begin_attempt(task: TaskSnapshot, event: event_pb2.TaskEvent) -> TaskSnapshot:
    attempts = task.attempts
    if attempts and attempts[-1].outcome == task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED:
        attempts = closed(task, task_pb2.ATTEMPT_LOST, event.time)
    begun = task_pb2.Attempt(number=event.attempt, worker=event.worker, start_time=event.time)
    begun.device = event.started.device
    status = copy(task.status)
    status.state = task_pb2.RUNNING if status.state == task_pb2.PENDING else status.state
    status.stage = failure_pb2.FETCHING_INPUTS
    status.progress = 0.0
    status.message = ""
    status.pending_reason = ""
    if not status.HasField("start_time"):
        status.start_time.CopyFrom(event.time)
    return replace(task, status=status, attempts=(*attempts, begun), follows="")


def _revive(task: TaskSnapshot) -> TaskSnapshot:
    again = task_pb2.Attempt()
    again.CopyFrom(task.attempts[-1])
    again.outcome = task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED
    again.ClearField("end_time")
    status = copy(task.status)
    status.state = task_pb2.RUNNING if status.state == task_pb2.PENDING else status.state
    status.stage = status.stage or failure_pb2.FETCHING_INPUTS
    return replace(task, status=status, attempts=(*task.attempts[:-1], again))


def _started(task: TaskSnapshot, event: event_pb2.TaskEvent) -> Step:
    if task.attempts[-1].device or not event.started.device:
        return task, ()
    attempt = task_pb2.Attempt()
    attempt.CopyFrom(task.attempts[-1])
    attempt.device = event.started.device
    return replace(task, attempts=(*task.attempts[:-1], attempt)), ()


def _progressed(task: TaskSnapshot, event: event_pb2.TaskEvent) -> Step:
    news, old = event.progressed, task.status
    unchanged = (news.stage, news.progress, news.message) == (old.stage, old.progress, old.message)
    if news.stage < old.stage or news.progress < old.progress or unchanged:
        return task, ()
    status = copy(old)
    status.stage = news.stage
    status.progress = min(news.progress, 1.0)
    status.message = news.message
    return replace(task, status=status), ()


def _succeeded(task: TaskSnapshot, event: event_pb2.TaskEvent) -> Step:
    if task.status.stage == failure_pb2.REGISTERING:
        return task, (Effect.COMPLETE,)
    status = copy(task.status)
    status.stage = failure_pb2.REGISTERING
    status.progress = 1.0
    status.message = "recording the result"
    return replace(task, status=status, attempts=logged(task, event.succeeded.log)), (Effect.COMPLETE,)


def _failed(task: TaskSnapshot, event: event_pb2.TaskEvent) -> Step:
    failure = event.failed.failure
    task = replace(task, attempts=logged(task, event.failed.log))
    task = replace(task, attempts=closed(task, task_pb2.ATTEMPT_FAILED, event.time, failure))
    if not failure.retryable:
        return end(task, task_pb2.FAILED, event.time, failure)
    return try_again(task, event.time, failure)


def _cancelled(task: TaskSnapshot, event: event_pb2.TaskEvent) -> Step:
    task = replace(task, attempts=logged(task, event.cancelled.log))
    task = replace(task, attempts=closed(task, task_pb2.ATTEMPT_CANCELLED, event.time))
    return end(task, task_pb2.CANCELLED, event.time)


def _cancel(task: TaskSnapshot, command: Cancel) -> Step:
    if task.status.state == task_pb2.PENDING:
        ended, effects = end(task, task_pb2.CANCELLED, command.time)
        return ended, (Effect.SIGNAL_CANCEL, *effects)
    if task.status.state == task_pb2.CANCELLING:
        return task, ()
    status = copy(task.status)
    status.state = task_pb2.CANCELLING
    return replace(task, status=status), (Effect.SIGNAL_CANCEL,)


def _cancel_expired(task: TaskSnapshot, command: CancelExpired) -> Step:
    if task.status.state != task_pb2.CANCELLING:
        return task, ()
    return end(close_open(task, task_pb2.ATTEMPT_LOST, command.time), task_pb2.CANCELLED, command.time)


def _completed(task: TaskSnapshot, command: Completed) -> Step:
    if not _registering(task, command.attempt):
        return task, ()
    task = replace(task, attempts=closed(task, task_pb2.ATTEMPT_SUCCEEDED, command.time))
    return end(task, task_pb2.SUCCEEDED, command.time)


def _completion_failed(task: TaskSnapshot, command: CompletionFailed) -> Step:
    if not _registering(task, command.attempt):
        return task, ()
    task = replace(task, attempts=closed(task, task_pb2.ATTEMPT_FAILED, command.time, command.failure))
    return end(task, task_pb2.FAILED, command.time, command.failure)


def _registering(task: TaskSnapshot, attempt: int) -> bool:
    return (
        task.attempt == attempt
        and task.status.stage == failure_pb2.REGISTERING
        and task.attempts[-1].outcome == task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED
    )


def _worker_lost(task: TaskSnapshot, command: WorkerLost) -> Step:
    if not task.attempts or task.attempt != command.attempt:
        return task, ()
    if task.attempts[-1].outcome != task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED:
        return task, ()
    task = close_open(task, task_pb2.ATTEMPT_LOST, command.time)
    return try_again(task, command.time, lost_failure(task))


def _dead_lettered(task: TaskSnapshot, command: DeadLettered) -> Step:
    if command.attempt < task.attempt:
        return task, ()
    task = close_open(task, task_pb2.ATTEMPT_LOST, command.time)
    if task.status.state == task_pb2.CANCELLING:
        return end(task, task_pb2.CANCELLED, command.time)
    return end(task, task_pb2.FAILED, command.time, lost_failure(task))


def _leader_succeeded(task: TaskSnapshot, command: LeaderSucceeded) -> Step:
    return end(task, task_pb2.SUCCEEDED, command.time) if task.follows else (task, ())


def _leader_failed(task: TaskSnapshot, command: LeaderFailed) -> Step:
    return end(task, task_pb2.FAILED, command.time, command.failure) if task.follows else (task, ())


def _promote(task: TaskSnapshot, command: Promote) -> Step:
    if not task.follows:
        return task, ()
    status = copy(task.status)
    status.pending_reason = ""
    return replace(task, status=status, follows=""), (Effect.DISPATCH,)


_EVENTS: dict[str, Callable[[TaskSnapshot, event_pb2.TaskEvent], Step]] = {
    "started": _started,
    "progressed": _progressed,
    "succeeded": _succeeded,
    "failed": _failed,
    "cancelled": _cancelled,
}
_COMMANDS: dict[type[Any], Callable[[TaskSnapshot, Any], Step]] = {
    Cancel: _cancel,
    CancelExpired: _cancel_expired,
    Completed: _completed,
    CompletionFailed: _completion_failed,
    WorkerLost: _worker_lost,
    DeadLettered: _dead_lettered,
    LeaderSucceeded: _leader_succeeded,
    LeaderFailed: _leader_failed,
    Promote: _promote,
}
