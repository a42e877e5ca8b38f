"""A local copy of a part of a key-value bucket, kept fresh two ways.

Every write to a bucket is a message that plain subscribers hear at once; the whole is read again now and then, which
covers what was missed while the connection was down.

The `watch` of nats-py does not serve: its consumer lives in the server's memory, is gone after a restart, and every
process would have one. Nor does it say when an entry was last written, by which a worker that is gone is forgotten.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import nats.errors
import structlog
from nats.aio.msg import Msg

from services.bus.connection import Bus
from services.bus.streams import direct_get

log = structlog.get_logger(__name__)

_READ_AT_ONCE = 10_000


class Mirror:
    """Entries of `bucket` whose keys match `keys`, each forgotten `ttl` seconds after it was last seen written.

    Args:
        bus: The connection.
        bucket: Name of the bucket; it allows direct reads.
        keys: Keys to mirror, as a subject: `conversion.>`.
        ttl: The bucket's time to live, in seconds.
        on_put: Called with key and value of everything new.
        refresh: Seconds between full reads.
    """

    def __init__(
        self,
        bus: Bus,
        bucket: str,
        keys: str,
        ttl: float,
        *,
        on_put: Callable[[str, bytes], Awaitable[None]] | None = None,
        refresh: float = 10.0,
    ) -> None:
        self._bus = bus
        self._stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."
        self._keys = keys
        self._ttl = ttl
        self._on_put = on_put
        self._refresh = refresh
        self._entries: dict[str, tuple[float, bytes]] = {}
        self.synced = False
        # Grows with everything that is new, or gone before its time to live was over.
        self.version = 0
        self._first = asyncio.Event()

    def entries(self) -> dict[str, bytes]:
        """Return the entries that are alive."""
        oldest = time.monotonic() - self._ttl
        return {key: value for key, (seen, value) in self._entries.items() if seen >= oldest}

    def __contains__(self, key: str) -> bool:
        entry = self._entries.get(key)
        return entry is not None and entry[0] >= time.monotonic() - self._ttl

    async def wait(self) -> None:
        """Return once the bucket was read for the first time; `run` reads it."""
        await self._first.wait()

    async def run(self) -> None:
        """Keep the copy fresh until cancelled."""
        subscription = await self._bus.subscribe(self._prefix + self._keys, self._hear)
        changed = asyncio.Event()

        async def wake() -> None:
            changed.set()

        forget = self._bus.on_reconnect(wake)
        try:
            while True:
                changed.clear()
                try:
                    await self._read()
                    self.synced = True
                    self._first.set()
                except (nats.errors.Error, OSError, TimeoutError) as error:
                    self.synced = False
                    log.debug("mirror.unread", stream=self._stream, error=str(error))
                try:
                    async with asyncio.timeout(self._refresh if self.synced else 0.5):
                        await changed.wait()
                except TimeoutError:
                    continue
        finally:
            forget()
            if not self._bus.nc.is_closed:
                await subscription.unsubscribe()

    async def _hear(self, message: Msg) -> None:
        key = message.subject.removeprefix(self._prefix)
        if (message.headers or {}).get("KV-Operation") in ("DEL", "PURGE"):
            self._forget(key)
            return
        await self._keep(key, message.data, time.monotonic())

    async def _keep(self, key: str, value: bytes, seen: float) -> None:
        news = key not in self._entries or self._entries[key][1] != value
        self._entries[key] = (seen, value)
        self.version += news
        if news and self._on_put is not None:
            await self._on_put(key, value)

    async def _read(self) -> None:
        """Read the newest entry of every key, with one batched direct get."""
        started = time.monotonic()
        found: set[str] = set()
        request = {"multi_last": [self._prefix + self._keys], "batch": _READ_AT_ONCE}
        for message in await direct_get(self._bus, self._stream, request):
            headers = message.headers or {}
            if headers.get("KV-Operation") in ("DEL", "PURGE"):
                continue
            key = headers["Nats-Subject"].removeprefix(self._prefix)
            found.add(key)
            await self._keep(key, message.data, started)
        for key in [key for key, (seen, _) in self._entries.items() if key not in found and seen < started]:
            self._forget(key)

    def _forget(self, key: str) -> None:
        if self._entries.pop(key, None) is not None:
            self.version += 1
