"""Changes of a task by the owning service itself, beside the events of workers. Each has its time."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.timestamp_pb2 import Timestamp
from lathe.type.v1.failure_pb2 import Failure


@dataclass(frozen=True, slots=True)
class Cancel:
    """A caller cancels the task."""

    time: Timestamp


@dataclass(frozen=True, slots=True)
class CancelExpired:
    """The worker's time to obey a cancellation is over."""

    time: Timestamp


@dataclass(frozen=True, slots=True)
class Completed:
    """The effects of this attempt's success are done."""

    time: Timestamp
    attempt: int


@dataclass(frozen=True, slots=True)
class CompletionFailed:
    """The effects of this attempt's success cannot be done."""

    time: Timestamp
    attempt: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class HandOn:
    """This attempt's success is not all: a worker on the device goes on from it."""

    time: Timestamp
    attempt: int


@dataclass(frozen=True, slots=True)
class TakeAsBuilt:
    """No worker on the device goes on: what was handed on is recorded as it is."""

    time: Timestamp


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """The worker of this attempt is gone."""

    time: Timestamp
    attempt: int


@dataclass(frozen=True, slots=True)
class DeadLettered:
    """The message was delivered the maximum number of times; this was its last attempt."""

    time: Timestamp
    attempt: int


@dataclass(frozen=True, slots=True)
class LeaderSucceeded:
    """The task that did the same work has a result."""

    time: Timestamp


@dataclass(frozen=True, slots=True)
class LeaderFailed:
    """The task that did the same work failed for good."""

    time: Timestamp
    failure: Failure


@dataclass(frozen=True, slots=True)
class Promote:
    """The leader ended without an answer; this follower does the work itself."""

    time: Timestamp


Command = (
    Cancel
    | CancelExpired
    | Completed
    | CompletionFailed
    | HandOn
    | TakeAsBuilt
    | WorkerLost
    | DeadLettered
    | LeaderSucceeded
    | LeaderFailed
    | Promote
)
