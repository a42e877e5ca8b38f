"""Failures of engines as messages: what a task that failed, or an import, says of itself."""

from __future__ import annotations

from lathe.type.v1 import failure_pb2

from engines.failures import EngineFailure


def failure_message(
    failure: EngineFailure, stage: failure_pb2.TaskStage.ValueType, longest: int
) -> failure_pb2.Failure:
    """Return a failure of a stage, each text cut to `longest` characters: what a tool said at length is logged."""
    return failure_pb2.Failure(
        stage=stage,
        reason=failure_pb2.FailureReason.Value(failure.reason.value),
        message=failure.message[:longest],
        node=failure.node[:longest],
        operator=failure.operator[:longest],
        evidence=failure.evidence[:longest],
        suggested_fix=failure.suggested_fix[:longest],
        retryable=failure.retryable,
    )
