"""Calls a kind's `complete`, and decides whether to try again.

The worker's outcome is kept with the task before this, so that no answer of a sibling ever repeats the work.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message
from lathe.internal.v1 import event_pb2
from lathe.type.v1 import failure_pb2

from services.platform.errors import LatheError, from_rpc_error, is_transient
from services.platform.identity import acting_as
from services.platform.interceptors.error_mapping import explain
from services.platform.telemetry import bind_task, continue_trace
from services.tasks.kind import TaskKind, unpack

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 25.0
MAX_FAULTS = 5
# About eight hours: the pause between tries grows to half a minute.
MAX_TRIES = 1000


@dataclass(frozen=True, slots=True)
class Done:
    """The result of the task; its success is complete."""

    result: Message


@dataclass(frozen=True, slots=True)
class Refused:
    """It cannot be completed."""

    failure: failure_pb2.Failure


@dataclass(frozen=True, slots=True)
class Later:
    """Something did not answer; try again after `delay` seconds."""

    delay: float


Completion = Done | Refused | Later


async def complete(
    kind: TaskKind, task: Any, event: event_pb2.TaskEvent, assignment: bytes, delivery: int
) -> Completion:
    """Call `kind.complete` in the name of the task's owner; `delivery` counts the tries, from 1."""
    outcome, work = kind.outcome_type(), event_pb2.TaskAssignment.FromString(assignment).work
    with bind_task(event.task_id), acting_as(task.owner), continue_trace(f"{kind.name}.complete", event.traceparent):
        try:
            if not unpack(event.succeeded.outcome, outcome):
                raise TypeError(f"The outcome is a {event.succeeded.outcome.type_url}.")
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return Done(await kind.complete(task, outcome, work))
        except (LatheError, grpc.aio.AioRpcError) as error:
            failure = refusal(error)
            if failure is not None:
                return Refused(failure)
            return _later(str(error), delivery)
        except Exception as error:
            if isinstance(error, OSError) or explain(error).error.code is grpc.StatusCode.UNAVAILABLE:
                # A server does not answer: the object store, the database.
                return _later(str(error) or type(error).__name__, delivery)
            # A fault in a kind must end in a FAILED task, not in a projector that stops.
            log.exception("task.complete_failed", delivery=delivery)
            if delivery < MAX_FAULTS:
                return Later(_backoff(delivery))
            return Refused(
                _failure(failure_pb2.FAILURE_REASON_INTERNAL_ERROR, f"Recording failed: {type(error).__name__}.")
            )


def refusal(error: LatheError | grpc.aio.AioRpcError) -> failure_pb2.Failure | None:
    """Return why a result cannot be recorded; None if trying again may help."""
    told = from_rpc_error(error) if isinstance(error, grpc.aio.AioRpcError) else error
    return None if is_transient(told.code) else _failure(failure_pb2.FAILURE_REASON_INVALID_SPEC, told.message)


def _later(message: str, delivery: int) -> Completion:
    if delivery < MAX_TRIES:
        log.info("task.complete_later", message=message, delivery=delivery)
        return Later(_backoff(delivery))
    return Refused(
        _failure(
            failure_pb2.FAILURE_REASON_INFRASTRUCTURE,
            f"Lathe gave up after {delivery} tries: {message}",
            retryable=True,
        )
    )


def _failure(reason: Any, message: str, *, retryable: bool = False) -> failure_pb2.Failure:
    return failure_pb2.Failure(
        stage=failure_pb2.TASK_STAGE_REGISTERING,
        reason=reason,
        message=f"The work is done, but its result could not be recorded: {message}",
        suggested_fix="Fix what the message names, then retry the task. The outcome of the work is kept: the retry "
        "only records it. To do the work again, retry with skip_cache.",
        retryable=retryable,
    )


def _backoff(delivery: int) -> float:
    return min(0.25 * 2.0 ** min(delivery, 8), 30.0)
