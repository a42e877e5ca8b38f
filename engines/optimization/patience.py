"""Ends work that takes longer than it may, in the same process: builders of forms cannot be told when to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from engines.sandbox.syscalls import handle_on_usual_stack

_AGAIN_SECONDS = 2.0
"""Where code that is being cleaned up swallows the end, it comes again after this time."""


class Overrun(BaseException):
    """The time is over; no `Exception`, so that a builder does not take it for its tool's failure."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise `Overrun` in the body once it took that long: at the next line of Python after the time.

    A call into a native library is waited for. A program that the body waits for with `subprocess.run` is ended. Only
    the main thread can be interrupted; in another one the body takes the time that it takes.
    """
    if threading.current_thread() is not threading.main_thread() or seconds <= 0:
        yield
        return
    armed = True

    def end(_number: int, _frame: FrameType | None) -> None:
        if armed:
            raise Overrun

    before = signal.signal(signal.SIGALRM, end)
    handle_on_usual_stack(signal.SIGALRM)
    signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN_SECONDS)
    try:
        yield
    finally:
        armed = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
