"""How many tasks need a worker, by device: what a pool of workers is scaled by.

The tables are read once for all who ask, and for a twentieth of the time at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

import asyncpg
import structlog

from services.bus.connection import Bus
from services.bus.listening import listening, wait_for_any
from services.bus.topology import sent_subject

log = structlog.get_logger(__name__)

KEPT_SECONDS = 1.0
# Between two readings, so many times as long as the first one took.
_READINGS = 20
# What is sent within this time is one look.
_PAUSE_SECONDS = 0.05
_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class Demand:
    """The demand of one kind of task.

    Args:
        kind: The kind.
        bus: The connection.
        read: Returns how many tasks need a worker, by device.
    """

    def __init__(self, kind: str, bus: Bus, read: Callable[[], Awaitable[Mapping[str, int]]]) -> None:
        self.kind = kind
        self._bus = bus
        self._read = read
        self._counts: Mapping[str, int] = {}
        # By the monotonic clock: when a task was last sent, when the tables were last read, until when that holds, when
        # they may be read again.
        self._sent_at = self._read_at = self._stale_at = self._rested_at = 0.0
        self._reading = asyncio.Lock()
        self._watchers: dict[str, set[asyncio.Event]] = {}

    async def counts(self) -> Mapping[str, int]:
        """Return the demand by device; one that is not named has none."""
        async with self._reading:
            now = time.monotonic()
            if now >= self._stale_at or (self._sent_at >= self._read_at and now >= self._rested_at):
                await self._look()
        return self._counts

    def latest(self, device: str) -> int:
        """Return the demand for a device as it was last read."""
        return self._counts.get(device, 0)

    @contextmanager
    def watched(self, device: str, changed: asyncio.Event) -> Iterator[None]:
        """Set an event whenever a device begins or ceases to need workers."""
        watchers = self._watchers.setdefault(device, set())
        watchers.add(changed)
        try:
            yield
        finally:
            watchers.discard(changed)
            if not watchers and self._watchers.get(device) is watchers:
                del self._watchers[device]

    async def run(self) -> None:
        """Look for those who watch: as soon as a task is sent, by whichever replica, and now and then."""
        async with listening(self._bus, sent_subject(self.kind, "*")) as sent:
            while True:
                if await wait_for_any(sent, KEPT_SECONDS):
                    sent.clear()
                    self._sent_at = time.monotonic()
                    await asyncio.sleep(self._rested_at - self._sent_at)
                if self._watchers:
                    try:
                        await self.counts()
                    except _AWAY as error:
                        log.debug("demand.unread", error=str(error) or type(error).__name__)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _look(self) -> None:
        self._read_at = time.monotonic()
        before, self._counts = self._counts, await self._read()
        now = time.monotonic()
        self._rested_at = now + _READINGS * (now - self._read_at)
        self._stale_at = max(now + KEPT_SECONDS, self._rested_at)
        for device, watchers in self._watchers.items():
            if (device in before) != (device in self._counts):
                for changed in watchers:
                    changed.set()
