"""The calls of one process: how many it takes at once, and of each user in a second, until it drains."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from services.platform.errors import LatheError, resource_exhausted, unavailable
from services.platform.identity import Caller, Proof
from services.platform.settings import Settings

__all__ = ["Traffic", "going_away"]

_MOST_USERS = 10_000


@dataclass(slots=True)
class _Bucket:
    tokens: float
    time: float


class Traffic:
    """What one process does at the moment, and its limits."""

    def __init__(self, settings: Settings) -> None:
        """Take the limits from LATHE_MAX_CALLS, LATHE_MAX_STREAMS and LATHE_CALLS_PER_SECOND."""
        self.draining = False
        self._streams: set[asyncio.Timeout] = set()
        self._calls = 0
        self._idle = asyncio.Event()
        self._most_calls = settings.max_calls
        self._most_streams = settings.max_streams
        self._rate = settings.calls_per_second
        self._burst = max(1.0, self._rate)
        self._buckets: dict[str, _Bucket] = {}

    def begin(self, scope: asyncio.Timeout, streaming: bool) -> None:
        """Count a call in; `scope` ends it."""
        if streaming:
            self._streams.add(scope)
        else:
            self._calls += 1

    def end(self, scope: asyncio.Timeout, streaming: bool) -> None:
        """Count a call out."""
        if streaming:
            self._streams.discard(scope)
        else:
            self._calls -= 1
        if not self._calls and not self._streams:
            self._idle.set()

    def require_room(self) -> None:
        """Refuse a call, which is counted already, if this process takes no more: LatheError."""
        if self.draining:
            raise going_away()
        if self._calls > self._most_calls:
            raise _overloaded(f"answering {self._most_calls} calls")
        if len(self._streams) > self._most_streams:
            raise _overloaded(f"serving {self._most_streams} streams")

    async def drain(self, seconds: float) -> None:
        """Send clients elsewhere: end every stream, refuse new calls, and wait up to `seconds` for those in flight."""
        self.draining = True
        for scope in self._streams:
            scope.reschedule(asyncio.get_running_loop().time())
        if self._calls or self._streams:
            self._idle.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._idle.wait()

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


def going_away() -> LatheError:
    """Return what callers are told while the server stops."""
    message = "This server is stopping. Call again: another replica, or the next one here, will answer."
    return unavailable("lathe", message)
