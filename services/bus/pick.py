"""Takes messages from several durable consumers, and never has more than there is room for.

A request that waits at the server, as `pull` keeps one, does not serve here. One would have to wait at every consumer,
so that several messages could arrive for one free place; each would count as delivered, and would have to go back. Nor
can a request be withdrawn: the server learns late that nobody listens, and what it sent until then is lost for the ack
wait. So no request waits there for long. The server tells by a plain message that the stream stored something
(`republish`), and only then a consumer is asked for one message. It may hear of the message a moment after we do, so it
has a moment to answer. Now and then, all are asked: a message that comes for a second time is not told, a plain message
may be lost, and a process of an older release that starts makes the server tell nothing until one of this release does.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from services.bus.connection import Bus

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0
ANSWER_SECONDS = 2.0
MOMENT_SECONDS = 0.1


class Source(NamedTuple):
    """A durable consumer, and the subject on which the server tells that there may be a message for it."""

    consumer: str
    told: str


def _nothing() -> None:
    """Stand in for the reconnect callback before there is one."""


class Picker:
    """Messages of several consumers of a stream. Use as an async context manager.

    Args:
        bus: The connection.
        stream: The stream.
        sources: The consumers, by any name.
        capacity: How many messages may be held at once.
        order: Returns the names of the sources, those first that are to be asked first. One that had nothing when
            it was asked comes after those that were not asked since.

    Attributes:
        left: Messages that nobody took before the end; each is delivered, and has to be given back.
    """

    def __init__(
        self,
        bus: Bus,
        stream: str,
        sources: Mapping[str, Source],
        capacity: int,
        order: Callable[[], Sequence[str]],
    ) -> None:
        self._bus = bus
        self._stream = stream
        self._sources = dict(sources)
        self._capacity = capacity
        self._order = order
        self._held = 0
        # Sources that may have a message: the others said that they have none, and nothing was told of them since.
        self._maybe = set(self._sources)
        # Sources from which nothing came when they were asked, since a message came or there was nobody left to ask.
        self._empty = set[str]()
        # When all were last taken to have one, and when something was told of each, by the monotonic clock.
        self._looked = time.monotonic()
        self._told = dict.fromkeys(self._sources, -math.inf)
        self._arrived: deque[Msg] = deque()
        self._asked = 0
        self._answered = asyncio.Event()
        self._answered.set()
        self._wake = asyncio.Event()
        self._inbox = ""
        self._subscriptions: list[Subscription] = []
        self._forget_reconnect: Callable[[], None] = _nothing
        self.left: list[Msg] = []

    async def __aenter__(self) -> Self:
        self._inbox = self._bus.nc.new_inbox()
        self._subscriptions.append(await self._bus.subscribe(f"{self._inbox}.*", self._receive))
        for name, source in self._sources.items():
            self._subscriptions.append(await self._bus.subscribe(source.told, self._hears(name)))
        self._forget_reconnect = self._bus.on_reconnect(self._look_at_all)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._forget_reconnect()
        # What was asked for is answered, so that no message arrives where nobody hears it.
        await self._wait_for_answer()
        for subscription in self._subscriptions:
            try:
                await subscription.unsubscribe()
            except nats.errors.Error:
                log.debug("pick.unsubscribe_failed", stream=self._stream)
        self.left = list(self._arrived)
        self._arrived.clear()

    async def take(self) -> Msg:
        """Return a message; waits until there is one. It must be released."""
        while not self._arrived:
            self._wake.clear()
            # However much is told of one source meanwhile: nobody may tell of what comes back to another.
            if (rest := self._looked + LOOK_SECONDS - time.monotonic()) <= 0:
                self._maybe.update(self._sources)
                self._looked = time.monotonic()
            if self._held < self._capacity and (name := self._next()) is not None:
                await self._ask(name)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(max(rest, 0)):
                    await self._wake.wait()
        return self._arrived.popleft()

    def release(self) -> None:
        """Note that a taken message is settled."""
        self._held -= 1
        self._wake.set()

    def _next(self) -> str | None:
        # Who had nothing comes after the others, or what is told of it again and again would keep them from their turn.
        # So a message that comes for it just then waits for at most one of theirs.
        if not (untried := self._maybe - self._empty):
            self._empty.clear()
            untried = self._maybe
        return next((name for name in self._order() if name in untried), None)

    async def _ask(self, name: str) -> None:
        self._maybe.discard(name)
        if not self._bus.connected:
            return  # the client would keep the request, and send all of them at once when the server is back
        self._asked += 1
        self._answered.clear()
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._sources[name].consumer}"
        try:
            await self._bus.nc.publish(subject, self._request(name), reply=f"{self._inbox}.{self._asked}")
        except (nats.errors.Error, OSError):
            self._answered.set()
            return
        await self._wait_for_answer()
        if self._arrived:
            self._maybe.add(name)
            self._empty.clear()
        else:
            self._empty.add(name)

    def _request(self, name: str) -> bytes:
        told_just_now = time.monotonic() - self._told[name] < MOMENT_SECONDS
        patience = {"expires": int(MOMENT_SECONDS * 1e9)} if told_just_now else {"no_wait": True}
        return json.dumps({"batch": 1, **patience}).encode()

    async def _wait_for_answer(self) -> None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._answered.wait()
        except TimeoutError:
            log.debug("pick.unanswered", stream=self._stream)
            self._answered.set()

    async def _receive(self, message: Msg) -> None:
        status = (message.headers or {}).get("Status")
        if status is None:
            if self._held == self._capacity:
                # The late answer to a request that was given up, beside that of another one.
                await message.nak()
                return
            self._held += 1
            self._arrived.append(message)
        elif message.subject != f"{self._inbox}.{self._asked}" or status == "100":
            return
        self._answered.set()
        self._wake.set()

    def _hears(self, name: str) -> Callable[[Msg], Awaitable[None]]:
        async def hear(_: Msg) -> None:
            self._maybe.add(name)
            self._told[name] = time.monotonic()
            self._wake.set()

        return hear

    async def _look_at_all(self) -> None:
        self._maybe.update(self._sources)
        self._answered.set()
        self._wake.set()
