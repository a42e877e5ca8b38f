"""Delays before restarting a process that ended by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

_FIRST_SECONDS = 0.5
_LONGEST_SECONDS = 30.0
_STEADY_SECONDS = 60.0


@dataclass
class Backoff:
    """Delays that double with each start, and reset after a minute of running.

    Attributes:
        clock: Monotonic clock in seconds.
        pending: Time of the start that is scheduled, or None.
    """

    clock: Callable[[], float] = time.monotonic
    pending: float | None = None
    _failures: int = 0
    _last_start: float | None = field(default=None)

    def schedule(self) -> float:
        """Note that the process ended; return the seconds to wait before it starts again."""
        now = self.clock()
        if self._last_start is not None and now - self._last_start >= _STEADY_SECONDS:
            self._failures = 0
        delay: float = min(_FIRST_SECONDS * 2.0**self._failures, _LONGEST_SECONDS)
        self._failures += 1
        self.pending = now + delay
        return delay

    def due(self) -> bool:
        """Return whether the scheduled start is due."""
        return self.pending is not None and self.clock() >= self.pending

    def started(self) -> None:
        """Note that the process was started."""
        self.pending = None
        self._last_start = self.clock()
