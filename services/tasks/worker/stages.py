"""How long an attempt is in each stage: for its last event, and as spans of its trace, above those of the steps."""

from __future__ import annotations

import time
from typing import Any

from lathe.type.v1 import failure_pb2, task_pb2
from opentelemetry.trace import Span

from services.platform.telemetry import begin_span

MOST_STEPS = 200
"""Of an attempt; an engine that counts something in its words must not flood the trace."""


class Stages:
    """A clock for the stages of an attempt, which runs from `begin` to `end`."""

    def __init__(self) -> None:
        self.stage: Any = failure_pb2.TASK_STAGE_FETCHING_INPUTS
        self._nanoseconds: dict[Any, int] = {}
        self._since: int | None = None
        self._span: Span | None = None
        self._step: Span | None = None
        self._message = ""
        self._steps = 0

    def begin(self) -> None:
        """Start the clock in the current stage, within the trace that is current now."""
        self._since = time.monotonic_ns()
        self._span = begin_span(failure_pb2.TaskStage.Name(self.stage).removeprefix("TASK_STAGE_").lower())

    def enter(self, stage: Any, message: str) -> None:
        """Go on to another stage, or to another step of this one, which `message` names."""
        if stage != self.stage:
            self.end()
            self.stage = stage
            self.begin()
        if message != self._message and stage == failure_pb2.TASK_STAGE_EXECUTING and self._steps < MOST_STEPS:
            self._end_step()
            self._message, self._steps = message, self._steps + 1
            self._step = begin_span(message, self._span) if message else None

    def end(self) -> None:
        """Stop the clock."""
        if self._since is None or self._span is None:
            return
        passed = time.monotonic_ns() - self._since
        self._nanoseconds[self.stage] = self._nanoseconds.get(self.stage, 0) + passed
        self._since = None
        self._end_step()
        self._span.end()

    def times(self) -> list[task_pb2.StageTime]:
        """Return the times of the stages that were entered, in their order."""
        found = []
        for stage, nanoseconds in sorted(self._nanoseconds.items()):
            entry = task_pb2.StageTime(stage=stage)
            entry.duration.FromNanoseconds(nanoseconds)
            found.append(entry)
        return found

    def _end_step(self) -> None:
        if self._step is not None:
            self._step.end()
            self._step = None
