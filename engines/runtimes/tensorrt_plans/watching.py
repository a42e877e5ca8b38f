"""What a builder says while it works: its log, its progress, and whether it may go on."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engines.sandbox.deadline import seconds_left

log = logging.getLogger(__name__)

_TOLD_STEP = 0.01


@functools.cache
def task_logger(trt: Any) -> Any:
    """Return the logger of the vendor's kind that writes to the task's log; its `errors` are the texts of errors.

    It is one for the process: as long as a builder is alive, the vendor keeps its logger and ignores any other.
    """
    levels = {
        trt.ILogger.INTERNAL_ERROR: logging.ERROR,
        trt.ILogger.ERROR: logging.ERROR,
        trt.ILogger.WARNING: logging.WARNING,
        trt.ILogger.INFO: logging.INFO,
    }

    class TaskLogger(trt.ILogger):  # type: ignore[misc] # the base is known when the vendor's module is
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            level = levels.get(severity, logging.DEBUG)
            if level == logging.ERROR:
                self.errors.append(text)
            log.log(level, "%s", text)

    return TaskLogger()


@dataclass
class Phase:
    """A phase of a build: its part of the whole, and how many of its steps are done."""

    start: float
    part: float
    steps: int
    done: int = 0

    @property
    def reached(self) -> float:
        """Fraction of the whole build."""
        return self.start + self.part * min(self.done, self.steps) / self.steps


class Watch:
    """Turns the phases of a build into one progress, and ends the build if the work has no time left.

    Args:
        progress: Takes the fraction that is done, and the name of the phase. The fraction never falls, and what is less
            than a hundredth is not told.
    """

    def __init__(self, progress: Callable[[float, str], None]) -> None:
        self._progress = progress
        self._until = time.monotonic() + seconds_left()  # the builder asks from threads of its own
        self._phases: dict[str, Phase] = {}
        self._reached, self._told = 0.0, -1.0
        self.stopped = False

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Note a phase that is the next step of its parent; without one, it is the build."""
        above = self._phases.get(parent or "")
        start, part = (above.reached, above.part / above.steps) if above else (0.0, 1.0)
        self._phases[name] = Phase(start, part, max(steps, 1))
        self._tell(name)

    def step(self, name: str, step: int) -> bool:
        """Note that a step is done, counted from 0; return whether the build may go on."""
        phase = self._phases.get(name)
        if phase:
            phase.done = step + 1
            self._tell(name)
        self.stopped = self.stopped or time.monotonic() > self._until
        return not self.stopped

    def finish(self, name: str) -> None:
        """Forget a phase."""
        self._phases.pop(name, None)

    def _tell(self, name: str) -> None:
        self._reached = max(self._reached, self._phases[name].reached)
        if self._reached - self._told >= _TOLD_STEP:
            self._told = self._reached
            self._progress(self._reached, name)


def monitor(trt: Any, watch: Watch) -> Any:
    """Return the vendor's monitor that tells a watch."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc] # the base is known when the vendor's module is
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            watch.start(name, parent, steps)

        def step_complete(self, name: str, step: int) -> bool:
            return watch.step(name, step)

        def phase_finish(self, name: str) -> None:
            watch.finish(name)

    return Monitor()
