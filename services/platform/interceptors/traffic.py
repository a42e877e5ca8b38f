"""How many calls one process takes: at once, and of each user in a second."""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import monotonic

from services.platform.errors import LatheError, resource_exhausted
from services.platform.identity import Caller, Proof
from services.platform.settings import Settings

__all__ = ["Traffic"]

_MOST_USERS = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    time: float


class Traffic:
    """The limits of one process."""

    def __init__(self, settings: Settings) -> None:
        """Take them from LATHE_MAX_CALLS, LATHE_MAX_STREAMS and LATHE_CALLS_PER_SECOND."""
        self._most_calls = settings.max_calls
        self._most_streams = settings.max_streams
        self._rate = settings.calls_per_second
        self._burst = max(1.0, self._rate)
        self._buckets: dict[str, _Bucket] = {}

    def require_room(self, calls: int, streams: int) -> None:
        """Refuse a call, which is counted already, if there are too many: LatheError, reason OVERLOADED."""
        if calls > self._most_calls:
            raise _overloaded(f"answering {self._most_calls} calls")
        if streams > self._most_streams:
            raise _overloaded(f"serving {self._most_streams} streams")

    def take(self, caller: Caller) -> None:
        """Count a call of a user.

        What services call for users is not counted again. A user who was quiet may call for one second at once.

        Raises:
            LatheError: RESOURCE_EXHAUSTED, reason QUOTA_EXCEEDED.
        """
        if not self._rate or caller.proof is not Proof.USER:
            return
        now = monotonic()
        bucket = self._buckets.get(caller.user)
        if bucket is None:
            if len(self._buckets) >= _MOST_USERS:
                self._forget(now)
            bucket = self._buckets[caller.user] = _Bucket(self._burst, now)
        bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.time) * self._rate)
        bucket.time = now
        if bucket.tokens < 1:
            raise self._exceeded(caller.user, (1 - bucket.tokens) / self._rate)
        bucket.tokens -= 1

    def _exceeded(self, user: str, seconds: float) -> LatheError:
        error = resource_exhausted(
            "QUOTA_EXCEEDED",
            f"Each server takes {self._rate:g} calls a second of one user, and {user} made more. Make fewer, or "
            "several things in one call, such as BatchGet; streams tell of changes without polling.",
            retry_after=math.ceil(seconds * 100) / 100,
        )
        error.metadata.update(quota="calls_per_second", limit=f"{self._rate:g}")
        return error

    def _forget(self, now: float) -> None:
        """Forget users whose bucket is full again."""
        full = self._burst / self._rate
        self._buckets = {user: each for user, each in self._buckets.items() if now - each.time < full}


def _overloaded(what: str) -> LatheError:
    return resource_exhausted(
        "OVERLOADED",
        f"This server is already {what}, its limit. Try again in a second, then after longer and longer pauses.",
        retry_after=1.0,
    )
