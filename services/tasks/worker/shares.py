"""Which kind of task is next on a worker of several: the one on which it has spent the least time of late. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

MEMORY_SECONDS = 600.0
"""Time that was spent fades with this time constant, so that a kind of which nothing came for long saves up little."""


class Shares:
    """The time that a worker spent on each kind; times are in seconds, by one clock."""

    def __init__(self, kinds: Iterable[str]) -> None:
        self._spent = dict.fromkeys(kinds, 0.0)
        self._last = dict.fromkeys(self._spent, -math.inf)
        self._at = 0.0

    def spent(self, kind: str, now: float, seconds: float) -> None:
        """Note that a task of a kind has ended, which took so long."""
        fade = math.exp((self._at - now) / MEMORY_SECONDS)
        self._spent = {name: spent * fade for name, spent in self._spent.items()}
        self._spent[kind] += seconds
        self._last[kind] = self._at = now

    def order(self) -> list[str]:
        """Return the kinds, the next one first; of those with equal times, the one that was served longest ago."""
        return sorted(self._spent, key=lambda kind: (self._spent[kind], self._last[kind]))
