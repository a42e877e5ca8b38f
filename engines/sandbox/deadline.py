"""The time that a piece of work may take, asked about between its steps.

Tools that make forms cannot be told when to stop, and an exception that a signal raises inside them leaves them in any
state. So nothing is interrupted: the work asks between its steps, wherever it hands a tool the next sample too, and a
tool that may take minutes in one step runs in a process of its own, which is ended (`seconds_left`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_until: ContextVar[float] = ContextVar("until", default=math.inf)
"""When the work has to end, by `time.monotonic()`."""


class Overrun(BaseException):
    """The time is over; no `Exception`, so that a builder does not take it for its tool's failure."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Give the body, in this thread, so many seconds: `check` and `seconds_left` go by them."""
    before = _until.set(min(_until.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _until.reset(before)


def seconds_left() -> float:
    """Return how many seconds the work has left, 0 or less if none; infinite if nothing bounds it."""
    return _until.get() - time.monotonic()


def check() -> None:
    """Raise `Overrun` if there is no time left."""
    if seconds_left() <= 0:
        raise Overrun
