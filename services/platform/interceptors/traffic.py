"""The calls of one process: how many it takes at once, and of each user and project in a second, until it drains."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from functools import partial

from services.platform import access
from services.platform.errors import LatheError, resource_exhausted, unavailable
from services.platform.identity import Caller, Proof
from services.platform.quotas import CachedQuotas, Table
from services.platform.rates import Rates
from services.platform.settings import Settings

__all__ = ["Traffic", "going_away"]


class Traffic:
    """What one process does at the moment, and its limits."""

    def __init__(self, settings: Settings, quotas: CachedQuotas | None = None) -> None:
        """Take the limits from LATHE_MAX_CALLS, LATHE_MAX_STREAMS, LATHE_CALLS_PER_SECOND and the projects' quotas."""
        self.draining = False
        self._streams: set[asyncio.Timeout] = set()
        self._calls = 0
        self._idle = asyncio.Event()
        self._most_calls = settings.max_calls
        self._most_streams = settings.max_streams
        self._rate = settings.calls_per_second
        self._quotas = quotas
        self._users, self._projects = Rates(), Rates()

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
        """Count a call of a user, and have it counted for the project that it turns out to be about.

        What services call for users is not counted again. A user or project that was quiet may call for one second at
        once.

        Raises:
            LatheError: RESOURCE_EXHAUSTED, reason QUOTA_EXCEEDED.
        """
        if caller.proof in (Proof.DELEGATE, Proof.SERVICE):
            return
        if self._rate and caller.proof is Proof.USER and (seconds := self._users.take(caller.user, self._rate)):
            what = f"of one user, and {caller.user} made more"
            raise _too_often(what, self._rate, seconds)
        if self._quotas is not None and (table := self._quotas.latest()).any_calls:
            access.count_once(partial(self._take_of_project, table))

    def _take_of_project(self, table: Table, project: str) -> None:
        rate = table.of(project).calls_per_second
        if rate and (seconds := self._projects.take(project, rate)):
            raise _too_often(f"about {project}, and its users made more", rate, seconds, project=project)


def _too_often(what: str, rate: float, seconds: float, **told: str) -> LatheError:
    error = resource_exhausted(
        "QUOTA_EXCEEDED",
        f"Each server takes {rate:g} calls a second {what}. Make fewer, or several things in one call, such as "
        "BatchGet; streams tell of changes without polling.",
        retry_after=math.ceil(seconds * 100) / 100,
    )
    error.metadata.update(told, quota="calls_per_second", limit=f"{rate:g}")
    return error


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
