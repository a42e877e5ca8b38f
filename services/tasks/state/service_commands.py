"""The effect of the owning service's commands on a task: the second half of the state machine (see `machine`). Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lathe.type.v1 import failure_pb2, task_pb2

from services.tasks.state.commands import (
    Cancel,
    CancelExpired,
    Command,
    Completed,
    CompletionFailed,
    DeadLettered,
    HandOn,
    LeaderFailed,
    LeaderSucceeded,
    Promote,
    TakeAsBuilt,
    WorkerLost,
)
from services.tasks.state.snapshot import (
    Effect,
    Step,
    TaskSnapshot,
    close_open,
    closed,
    copy,
    end,
    lost_failure,
    registering,
    try_again,
    waiting,
)


def apply_command(task: TaskSnapshot, command: Command) -> Step:
    """Return the task after a command; the task has not ended."""
    return _COMMANDS[type(command)](task, command)


def _cancel(task: TaskSnapshot, command: Cancel) -> Step:
    if task.status.state == task_pb2.TASK_STATE_PENDING:
        ended, effects = end(task, task_pb2.TASK_STATE_CANCELLED, command.time)
        return ended, (Effect.SIGNAL_CANCEL, *effects)
    if task.status.state == task_pb2.TASK_STATE_CANCELLING:
        return task, ()
    status = copy(task.status)
    status.state = task_pb2.TASK_STATE_CANCELLING
    return task._replace(status=status), (Effect.SIGNAL_CANCEL,)


def _cancel_expired(task: TaskSnapshot, command: CancelExpired) -> Step:
    if task.status.state != task_pb2.TASK_STATE_CANCELLING:
        return task, ()
    return end(
        close_open(task, task_pb2.ATTEMPT_OUTCOME_LOST, command.time), task_pb2.TASK_STATE_CANCELLED, command.time
    )


def _completed(task: TaskSnapshot, command: Completed) -> Step:
    if task.attempt != command.attempt or not registering(task):
        return task, ()
    task = task._replace(attempts=closed(task, task_pb2.ATTEMPT_OUTCOME_SUCCEEDED, command.time))
    return end(task, task_pb2.TASK_STATE_SUCCEEDED, command.time)


def _completion_failed(task: TaskSnapshot, command: CompletionFailed) -> Step:
    if task.attempt != command.attempt or not registering(task):
        return task, ()
    task = task._replace(attempts=closed(task, task_pb2.ATTEMPT_OUTCOME_FAILED, command.time, command.failure))
    return end(task, task_pb2.TASK_STATE_FAILED, command.time, command.failure)


def _hand_on(task: TaskSnapshot, command: HandOn) -> Step:
    if task.attempt != command.attempt or not registering(task):
        return task, ()
    worker = task.attempts[-1].worker
    task = task._replace(attempts=closed(task, task_pb2.ATTEMPT_OUTCOME_HANDED_ON, command.time))
    if task.status.state == task_pb2.TASK_STATE_CANCELLING:
        return end(task, task_pb2.TASK_STATE_CANCELLED, command.time)
    reason = f"The worker {worker}, which is not the device, did its part; a worker on the device goes on from there."
    return waiting(task, reason), (Effect.DISPATCH,)


def _take_as_built(task: TaskSnapshot, command: TakeAsBuilt) -> Step:
    made = task.handed_on
    if task.status.state != task_pb2.TASK_STATE_PENDING or made is None:
        return task, ()
    # An attempt of its own: what a worker on the device may still say of those before is old.
    again = task_pb2.Attempt(
        number=task.attempt + 1,
        worker=made.worker,
        device=made.device,
        environment=made.environment,
        start_time=command.time,
    )
    status = copy(task.status)
    status.state = task_pb2.TASK_STATE_RUNNING
    status.stage = failure_pb2.TASK_STAGE_REGISTERING
    status.progress = 1.0
    status.message = "recording what was made; no worker on the device went on from it"
    status.pending_reason = ""
    return task._replace(status=status, attempts=(*task.attempts, again)), ()


def _worker_lost(task: TaskSnapshot, command: WorkerLost) -> Step:
    if not task.attempts or task.attempt != command.attempt or registering(task):
        return task, ()
    if task.attempts[-1].outcome != task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED:
        return task, ()
    task = close_open(task, task_pb2.ATTEMPT_OUTCOME_LOST, command.time)
    return try_again(task, command.time, lost_failure(task))


def _dead_lettered(task: TaskSnapshot, command: DeadLettered) -> Step:
    if command.attempt < task.attempt or (command.attempt == task.attempt and registering(task)):
        return task, ()
    task = close_open(task, task_pb2.ATTEMPT_OUTCOME_LOST, command.time)
    if task.status.state == task_pb2.TASK_STATE_CANCELLING:
        return end(task, task_pb2.TASK_STATE_CANCELLED, command.time)
    return end(task, task_pb2.TASK_STATE_FAILED, command.time, lost_failure(task))


def _leader_succeeded(task: TaskSnapshot, command: LeaderSucceeded) -> Step:
    return end(task, task_pb2.TASK_STATE_SUCCEEDED, command.time) if task.follows else (task, ())


def _leader_failed(task: TaskSnapshot, command: LeaderFailed) -> Step:
    return end(task, task_pb2.TASK_STATE_FAILED, command.time, command.failure) if task.follows else (task, ())


def _promote(task: TaskSnapshot, command: Promote) -> Step:
    if not task.follows:
        return task, ()
    status = copy(task.status)
    status.pending_reason = ""
    return task._replace(status=status, follows=""), (Effect.DISPATCH,)


_COMMANDS: dict[type[Any], Callable[[TaskSnapshot, Any], Step]] = {
    Cancel: _cancel,
    CancelExpired: _cancel_expired,
    Completed: _completed,
    CompletionFailed: _completion_failed,
    HandOn: _hand_on,
    TakeAsBuilt: _take_as_built,
    WorkerLost: _worker_lost,
    DeadLettered: _dead_lettered,
    LeaderSucceeded: _leader_succeeded,
    LeaderFailed: _leader_failed,
    Promote: _promote,
}
