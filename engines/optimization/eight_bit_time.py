"""Bounds on the time of a quantization's search where it is a part of an optimization."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from engines.quantization.choosing import Stopwatch
from engines.quantization.gate import JudgedForm
from engines.quantization.plan import Candidate
from engines.quantization.workshop import Trial, Workshop
from engines.timing.paired import ProfileReport

_TIMING_SECONDS = 1.0
"""Time of one comparison among quantizers: they are measured again, against everything else, in the search."""


class TimeIsUp(Exception):  # noqa: N818 - no error: the search ends with what it has
    """The time for one runtime's INT8 forms is spent."""


@dataclass
class BoundedWorkshop(Workshop):
    """A workshop that closes at a time, though not before it made one form.

    Attributes:
        deadline: When it closes, by `time.monotonic()`.
        made: The forms that it made.
    """

    deadline: float = 0.0
    made: list[JudgedForm] = field(default_factory=list)

    def try_out(self, candidate: Candidate, kept: frozenset[str] = frozenset(), name: str = "") -> Trial:
        """Make and judge a candidate; raises `TimeIsUp` after the deadline."""
        if self.made and time.monotonic() > self.deadline:
            raise TimeIsUp
        trial = super().try_out(candidate, kept, name)
        if trial.form is not None:
            self.made.append(trial.form)
        return trial


@dataclass(frozen=True)
class BriefStopwatch(Stopwatch):
    """A stopwatch that takes no longer than it must to tell quantizers apart."""

    def compare(self, forms: Sequence[JudgedForm], budget_seconds: float) -> ProfileReport:
        """Return the latencies, measured for a second at most."""
        return super().compare(forms, min(budget_seconds, _TIMING_SECONDS))
