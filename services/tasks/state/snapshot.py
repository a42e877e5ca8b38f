"""A task as the state machine sees it, and the small changes of which its transitions are made. Pure values."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any, NamedTuple

from google.protobuf.timestamp_pb2 import Timestamp
from lathe.internal.v1 import event_pb2
from lathe.type.v1 import failure_pb2, task_pb2
from lathe.type.v1.digest_pb2 import Digest

TERMINAL = frozenset({task_pb2.TASK_STATE_SUCCEEDED, task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_CANCELLED})
PENDING = task_pb2.TASK_STATE_PENDING
DONE = frozenset({task_pb2.TASK_STATE_SUCCEEDED, task_pb2.TASK_STATE_FAILED})
CLAIMED = frozenset({task_pb2.TASK_STATE_RUNNING, task_pb2.TASK_STATE_CANCELLING})
OPEN = frozenset({task_pb2.TASK_STATE_PENDING, task_pb2.TASK_STATE_RUNNING, task_pb2.TASK_STATE_CANCELLING})
UNCOUNTED = frozenset({task_pb2.ATTEMPT_OUTCOME_RETURNED, task_pb2.ATTEMPT_OUTCOME_HANDED_ON})


class Effect(Enum):
    """What the caller of `apply` must do after the new state is stored."""

    COMPLETE = auto()
    """Call the kind's `complete`, then apply Completed or CompletionFailed."""
    SIGNAL_CANCEL = auto()
    """Tell the worker, and any that may claim the task later, that it is cancelled."""
    DISPATCH = auto()
    """Send the task to the workers."""
    SETTLE = auto()
    """The task is terminal: release what it holds and settle its followers."""


class TaskSnapshot(NamedTuple):
    """A task as the machine sees it. The messages in it are never changed in place.

    Attributes:
        status: State, stage, progress and failure. Its `revision` is the store's.
        attempts: Each try, oldest first.
        follows: Name of the equal task whose result this one awaits; empty for others.
        max_attempts: Tries that the task has.
    """

    status: task_pb2.TaskStatus
    attempts: tuple[task_pb2.Attempt, ...] = ()
    follows: str = ""
    max_attempts: int = 3

    @property
    def terminal(self) -> bool:
        """Whether the task has ended."""
        return self.status.state in TERMINAL

    @property
    def attempt(self) -> int:
        """Number of the newest attempt; 0 before the first."""
        return self.attempts[-1].number if self.attempts else 0

    @property
    def returned(self) -> int:
        """How many attempts were given back or handed on: they do not count towards `max_attempts`."""
        return sum(attempt.outcome in UNCOUNTED for attempt in self.attempts)

    @property
    def handed_on(self) -> task_pb2.Attempt | None:
        """The attempt from which a worker on the device goes on; None if there is none."""
        made = (each for each in self.attempts if each.outcome == task_pb2.ATTEMPT_OUTCOME_HANDED_ON)
        return next(made, None)


Step = tuple[TaskSnapshot, tuple[Effect, ...]]


def pending(follows: str = "") -> task_pb2.TaskStatus:
    """Return the status of a new task; of a follower if `follows` names its leader."""
    reason = f"The same work is being done by {follows}; this task will share its result." if follows else ""
    return task_pb2.TaskStatus(state=task_pb2.TASK_STATE_PENDING, pending_reason=reason)


def try_again(task: TaskSnapshot, now: Timestamp, failure: failure_pb2.Failure) -> Step:
    """Return the task as PENDING if attempts remain, else ended: FAILED, or CANCELLED if that was requested."""
    if task.status.state == task_pb2.TASK_STATE_CANCELLING:
        return end(task, task_pb2.TASK_STATE_CANCELLED, now)
    counted = task.attempt - task.returned
    if counted >= task.max_attempts:
        return end(task, task_pb2.TASK_STATE_FAILED, now, failure)
    reason = f"Attempt {counted} of {task.max_attempts} ended: {failure.message} It is tried again."
    return waiting(task, reason), ()


def waiting(task: TaskSnapshot, reason: str) -> TaskSnapshot:
    """Return a task whose attempt has ended as PENDING once more."""
    status = copy(task.status)
    status.state = task_pb2.TASK_STATE_PENDING
    status.stage = failure_pb2.TASK_STAGE_UNSPECIFIED
    status.progress = 0.0
    status.message = ""
    status.pending_reason = reason
    return task._replace(status=status)


def end(task: TaskSnapshot, state: Any, now: Timestamp, failure: failure_pb2.Failure | None = None) -> Step:
    """Return the task in a terminal state."""
    status = copy(task.status)
    status.state = state
    status.stage = failure_pb2.TASK_STAGE_UNSPECIFIED
    status.message = ""
    status.pending_reason = ""
    status.end_time.CopyFrom(now)
    if state == task_pb2.TASK_STATE_SUCCEEDED:
        status.progress = 1.0
    if failure is not None:
        status.failure.CopyFrom(failure)
    return task._replace(status=status, follows=""), (Effect.SETTLE,)


def close_open(task: TaskSnapshot, outcome: Any, now: Timestamp) -> TaskSnapshot:
    """Return the task with its newest attempt ended, if that is open."""
    if task.attempts and task.attempts[-1].outcome == task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED:
        return task._replace(attempts=closed(task, outcome, now))
    return task


def closed(
    task: TaskSnapshot, outcome: Any, now: Timestamp, failure: failure_pb2.Failure | None = None
) -> tuple[task_pb2.Attempt, ...]:
    """Return the attempts with the newest one ended."""
    last = task_pb2.Attempt()
    last.CopyFrom(task.attempts[-1])
    last.outcome = outcome
    last.end_time.CopyFrom(now)
    last.stage, last.progress = task.status.stage, task.status.progress
    if failure is not None:
        last.failure.CopyFrom(failure)
    return (*task.attempts[:-1], last)


def logged(task: TaskSnapshot, log: Digest) -> tuple[task_pb2.Attempt, ...]:
    """Return the attempts with the newest one's log, if there is one."""
    if not log.sha256:
        return task.attempts
    last = task_pb2.Attempt()
    last.CopyFrom(task.attempts[-1])
    last.log.CopyFrom(log)
    return (*task.attempts[:-1], last)


def ran_with(task: TaskSnapshot, environment: str) -> tuple[task_pb2.Attempt, ...]:
    """Return the attempts with the environment of the newest one."""
    last = task_pb2.Attempt()
    last.CopyFrom(task.attempts[-1])
    last.environment = environment
    return (*task.attempts[:-1], last)


def measured(task: TaskSnapshot, event: event_pb2.TaskEvent) -> TaskSnapshot:
    """Return the task with what its newest attempt took, if an event says so for the first time."""
    if not event.stage_times or task.attempts[-1].stage_times:
        return task
    last = task_pb2.Attempt()
    last.CopyFrom(task.attempts[-1])
    last.stage_times.extend(event.stage_times)
    last.peak_memory_bytes = event.peak_memory_bytes
    return task._replace(attempts=(*task.attempts[:-1], last))


def registering(task: TaskSnapshot) -> bool:
    """Return whether the newest attempt has reported its success, which is being recorded."""
    return (
        task.status.stage == failure_pb2.TASK_STAGE_REGISTERING
        and task.attempt > 0
        and task.attempts[-1].outcome == task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED
    )


def lost_failure(task: TaskSnapshot) -> failure_pb2.Failure:
    """Return the failure of a task whose worker is gone."""
    worker = task.attempts[-1].worker if task.attempts else ""
    return failure_pb2.Failure(
        stage=task.status.stage,
        reason=failure_pb2.FAILURE_REASON_WORKER_LOST,
        message=f"The worker {worker or '(unknown)'} was not heard of again.",
        suggested_fix="See the worker's own log and its memory limit, then retry the task.",
        retryable=True,
    )


def copy(status: task_pb2.TaskStatus) -> task_pb2.TaskStatus:
    """Return a copy of a status, to be changed."""
    fresh = task_pb2.TaskStatus()
    fresh.CopyFrom(status)
    return fresh
