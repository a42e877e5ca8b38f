"""Failures of engines as messages of failed tasks and imports, and as answers to callers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lathe.type.v1 import failure_pb2

from engines.failures import EngineFailure, FailureReason
from engines.sandbox import Limits
from services.platform.errors import LatheError, failed_precondition
from services.platform.words import number

_TOO_LARGE = {FailureReason.OUT_OF_MEMORY, FailureReason.TIMEOUT}


@dataclass(frozen=True)
class ChildWork:
    """Work for a caller in a sandboxed child, in the words of its error messages.

    Attributes:
        doing: What takes too much: `Reading the files`.
        limits: Of the child.
        too_large: Reason of the answer if they are not enough.
        smaller: What to do about that.
        role: The extra with the packages that it needs.
    """

    doing: str
    limits: Limits
    too_large: str
    smaller: str
    role: str


def refusal(
    failure: EngineFailure, work: ChildWork, fault: Callable[[FailureReason, str], LatheError | None]
) -> LatheError | EngineFailure:
    """Return the error that a caller gets for a failure, or the failure itself if it is ours.

    Args:
        failure: What the child failed with.
        work: What it did.
        fault: Returns the answer to a reason and its words that is the caller's fault; None for another reason.
    """
    if failure.reason in _TOO_LARGE:
        took = f"more than {work.limits.memory_bytes >> 20} MiB of memory or {work.limits.timeout_seconds:.0f} seconds"
        return failed_precondition(work.too_large, f"{work.doing} took {took}. {work.smaller} {failure.message}")
    evidence = "" if failure.evidence in failure.message else failure.evidence  # many messages quote it
    words = " ".join(part for part in (failure.message, evidence, failure.suggested_fix) if part)
    if answer := fault(failure.reason, words):
        return answer
    if failure.reason is FailureReason.TOOLCHAIN_UNAVAILABLE:
        return failed_precondition(
            "TOOLCHAIN_UNAVAILABLE",
            f"{work.doing} is not possible here: {failure.message} Its operators need to install `lathe[{work.role}]`.",
        )
    return failure


def failure_message(
    failure: EngineFailure,
    stage: failure_pb2.TaskStage.ValueType,
    longest: int,
    limits: Mapping[FailureReason, str],
) -> failure_pb2.Failure:
    """Return a failure of a stage, each text cut to `longest` characters: what a tool said at length is logged.

    Args:
        failure: What went wrong.
        stage: In which stage.
        longest: Characters that each text may have.
        limits: What to do about work that met its limits, by reason, if the failure itself does not say it.
    """
    fix = failure.suggested_fix or limits.get(failure.reason, "")
    return failure_pb2.Failure(
        stage=stage,
        reason=number(failure_pb2.FailureReason, failure.reason.value),
        message=failure.message[:longest],
        node=failure.node[:longest],
        operator=failure.operator[:longest],
        evidence=failure.evidence[:longest],
        suggested_fix=fix[:longest],
        retryable=failure.retryable,
    )
