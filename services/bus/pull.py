"""A pull consumer that keeps a request waiting at the server, so that a message arrives the moment it exists.

Capacity counts what the server may have sent and what was taken but not yet released: a worker with one slot never
holds a second task, and a projector never holds more than it can settle within the ack wait.

The `fetch` of nats-py does not serve: it asks once per call, so that between two calls no request waits at the
server; it returns when a batch is full or time is up, not with what there is; and it leaves what arrives after it was
cancelled undelivered until the ack wait is over.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.bus.connection import Bus

log = structlog.get_logger(__name__)

REQUEST_SECONDS = 20.0
_GRACE_SECONDS = 2.0
_RETRY_SECONDS = 0.5


def _nothing() -> None:
    """Stand in for the reconnect callback before there is one."""


class Puller:
    """Messages of one durable consumer. Use as an async context manager; several may share the consumer."""

    def __init__(self, bus: Bus, stream: str, consumer: str, capacity: int) -> None:
        self._bus = bus
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._capacity = capacity
        self._requested = 0
        self._held = 0
        self._queue: deque[Msg] = deque()
        self._wake = asyncio.Event()
        self._heard = time.monotonic()
        self._subscription: Subscription | None = None
        self._inbox = ""
        self._forget_reconnect: Callable[[], None] = _nothing

    async def __aenter__(self) -> Self:
        self._inbox = self._bus.nc.new_inbox()
        self._subscription = await self._bus.subscribe(self._inbox, self._receive)
        self._forget_reconnect = self._bus.on_reconnect(self._reset)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._forget_reconnect()
        if self._subscription is not None:
            try:
                await self._subscription.unsubscribe()
            except nats.errors.Error:
                log.debug("pull.unsubscribe_failed", subject=self._subject)
        for message in self._queue:
            # Nobody will handle these here: another puller gets them at once.
            await message.nak()
        self._queue.clear()

    async def take(self, limit: int) -> list[Msg]:
        """Return between one and `limit` messages; waits until there is one. Each must be released."""
        while not self._queue:
            self._wake.clear()
            await self._request()
            try:
                async with asyncio.timeout(_RETRY_SECONDS if self._requested == 0 else REQUEST_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                self._check_stalled()
        count = min(limit, len(self._queue))
        return [self._queue.popleft() for _ in range(count)]

    async def release(self, count: int = 1) -> None:
        """Note that so many taken messages are settled, and ask for as many more."""
        self._held -= count
        await self._request()

    async def _request(self) -> None:
        free = self._capacity - self._requested - self._held
        # Ask in lumps: a request per message would double the traffic of a busy consumer.
        if free <= 0 or (self._requested > 0 and free * 4 < self._capacity) or not self._bus.connected:
            return
        self._requested += free
        body = {"batch": free, "expires": int(REQUEST_SECONDS * 1e9)}
        self._heard = time.monotonic()
        try:
            await self._bus.nc.publish(self._subject, json.dumps(body).encode(), reply=self._inbox)
        except (nats.errors.Error, OSError):
            self._requested -= free

    async def _receive(self, message: Msg) -> None:
        self._heard = time.monotonic()
        status = (message.headers or {}).get("Status")
        if status is None:
            self._requested = max(0, self._requested - 1)
            self._held += 1
            self._queue.append(message)
            self._wake.set()
            return
        if status == "100":
            return
        # 404 and 408: the request ended; 409: the consumer or the server went away; 503: there is no consumer.
        left = int((message.headers or {}).get("Nats-Pending-Messages", self._requested))
        self._requested = max(0, self._requested - left)
        if status in {"503", "409"}:
            log.debug("pull.status", subject=self._subject, status=status)
            self._requested = 0
        if status in {"408", "404"}:
            self._wake.set()

    async def _reset(self) -> None:
        self._requested = 0
        self._wake.set()

    def _check_stalled(self) -> None:
        if time.monotonic() - self._heard > REQUEST_SECONDS + _GRACE_SECONDS:
            self._requested = 0
