"""How often each of many may do something: a bucket of tokens for each, which holds what fills it in one second."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic

__all__ = ["Rates"]

_MOST = 10_000


@dataclass(slots=True)
class _Bucket:
    rate: float
    tokens: float
    time: float

    def fill(self, now: float) -> None:
        self.tokens = min(max(1.0, self.rate), self.tokens + (now - self.time) * self.rate)
        self.time = now


class Rates:
    """Counts by name. One who was quiet may do at once what the rate gives in a second."""

    def __init__(self) -> None:
        self._buckets: dict[str, _Bucket] = {}

    def take(self, name: str, rate: float) -> float:
        """Count once more, and return 0; or do not, and return the seconds until it may be.

        Args:
            name: Who does it.
            rate: How often in a second, more than 0.
        """
        now = monotonic()
        bucket = self._buckets.get(name)
        if bucket is None:
            if len(self._buckets) >= _MOST:
                self._forget(now)
            bucket = self._buckets[name] = _Bucket(rate, max(1.0, rate), now)
        bucket.rate = rate
        bucket.fill(now)
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / rate
        bucket.tokens -= 1
        return 0.0

    def _forget(self, now: float) -> None:
        """Forget those whose bucket is full again."""
        for bucket in self._buckets.values():
            bucket.fill(now)
        self._buckets = {name: each for name, each in self._buckets.items() if each.tokens < max(1.0, each.rate)}
