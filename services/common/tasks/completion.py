"""Calling a kind's `complete`: what became of it, and whether to try again."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Any

import grpc
import structlog
from google.protobuf.message import Message
from lathe.type.v1 import event_pb2, failure_pb2

from services.common.errors import LatheError
from services.common.identity import acting_as
from services.common.tasks.kind import TaskKind
from services.common.telemetry import bind_task, continue_trace

log = structlog.get_logger(__name__)

TIMEOUT_SECONDS = 25.0
MAX_FAULTS = 5
_LATER = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
    }
)


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


def action_key(work_key: bytes, environment: str) -> bytes:
    """Return the key of the action cache: the same work, done by the same programs on the same device."""
    return hashlib.sha256(work_key + environment.encode()).digest()


async def complete(kind: TaskKind, task: Any, event: event_pb2.TaskEvent, delivery: int) -> Completion:
    """Call `kind.complete` in the name of the task's owner; `delivery` counts the tries, from 1."""
    outcome = kind.outcome_type()
    with bind_task(event.task_id), acting_as(task.owner), continue_trace(f"{kind.name}.complete", event.traceparent):
        try:
            if not event.succeeded.outcome.Unpack(outcome):
                raise TypeError(f"The outcome is a {event.succeeded.outcome.type_url}.")
            async with asyncio.timeout(TIMEOUT_SECONDS):
                return Done(await kind.complete(task, outcome))
        except LatheError as error:
            return _answered(error.code, error.message, delivery)
        except grpc.aio.AioRpcError as error:
            return _answered(error.code(), error.details() or error.code().name, delivery)
        except (OSError, TimeoutError) as error:
            return _answered(grpc.StatusCode.UNAVAILABLE, str(error), delivery)
        except Exception as error:
            # A fault in a kind must end in a FAILED task, not in a projector that stops.
            log.exception("task.complete_failed", delivery=delivery)
            if delivery < MAX_FAULTS:
                return Later(_backoff(delivery))
            return _refused(failure_pb2.INTERNAL_ERROR, f"Recording the result failed: {type(error).__name__}.")


def _answered(code: grpc.StatusCode, message: str, delivery: int) -> Completion:
    if code in _LATER:
        log.info("task.complete_later", code=code.name, message=message, delivery=delivery)
        return Later(_backoff(delivery))
    return _refused(failure_pb2.INVALID_SPEC, f"The result could not be recorded: {message}")


def _refused(reason: Any, message: str) -> Refused:
    return Refused(
        failure_pb2.Failure(
            stage=failure_pb2.REGISTERING,
            reason=reason,
            message=message,
            suggested_fix="Mend what the message names, then retry the task; the work itself is in the action cache.",
        )
    )


def _backoff(delivery: int) -> float:
    return min(0.25 * 2.0 ** min(delivery, 8), 30.0)
