"""A time limit for a piece of work, checked between its steps.

Tools that make forms cannot be told to stop, and an exception from a signal would leave them in an undefined state. So
nothing is interrupted: the work checks the time between its steps, also before each sample that it hands to a tool, and
a tool that may take minutes in one step runs in a process of its own, which can be killed (`seconds_left`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_until: ContextVar[float] = ContextVar("until", default=math.inf)
"""Time at which the work must end, by `time.monotonic()`."""


class Overrun(BaseException):
    """Time is up; not an `Exception`, so that a builder does not mistake it for a failure of its tool."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Limit the body, in this thread, to a number of seconds, for `check` and `seconds_left`."""
    before = _until.set(min(_until.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _until.reset(before)


def seconds_left() -> float:
    """Return how many seconds the work has left, 0 or less if none; infinite without a limit."""
    return _until.get() - time.monotonic()


def check() -> None:
    """Raise `Overrun` if there is no time left."""
    if seconds_left() <= 0:
        raise Overrun
