"""From claims to rows: PENDING becomes RUNNING as soon as a worker begins.

Claims are plain messages, of which each goes to one replica. A lost one is made good by the next event of its attempt.
A claim that still waits when an event of its task is projected is written together with it, as happens to short tasks
on a busy system.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from uuid import UUID

import structlog
from google.protobuf.message import DecodeError
from lathe.internal.v1 import event_pb2
from nats.aio.msg import Msg

from services.bus.connection import Bus
from services.bus.topology import claimed_subject
from services.tasks.api.ledger import Ledger

log = structlog.get_logger(__name__)

BUSY_SECONDS = 0.01
PATIENCE = 4.0


SHORTEST_SECONDS = 0.005
LONGEST_SECONDS = 0.04


class Pace:
    """Waits the longer, the more the last batch held. The first of a quiet time never waits.

    A batch of n is followed by a pause of n times SHORTEST_SECONDS, at most LONGEST_SECONDS: at 100 items a second,
    batches stay at one or two; at 500, they grow to about twenty.
    """

    def __init__(self) -> None:
        self._pause = 0.0
        self._ended = 0.0

    @property
    def pause(self) -> float:
        """Seconds between batches just now; 0 in a quiet time."""
        return self._pause if time.monotonic() - self._ended < 2 * self._pause else 0.0

    async def wait(self) -> None:
        """Return when the next batch should be taken."""
        left = self._ended + self._pause - time.monotonic()
        if left > 0:
            await asyncio.sleep(left)

    def done(self, size: int) -> None:
        """Note that a batch of `size` items is handled."""
        self._pause = min(size * SHORTEST_SECONDS, LONGEST_SECONDS)
        self._ended = time.monotonic()


class Claims:
    """Applies the claims of one kind. `projecting` is the pace of the projector."""

    def __init__(self, ledger: Ledger, bus: Bus, projecting: Pace) -> None:
        self._ledger = ledger
        self._bus = bus
        self._projecting = projecting
        self._waiting: dict[UUID, event_pb2.TaskEvent] = {}
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Apply claims until cancelled."""
        kind = self._ledger.codec.kind.name
        subscription = await self._bus.subscribe(claimed_subject(kind, "*"), self.hear, queue=f"{kind}-projector")
        try:
            pace = Pace()
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                await pace.wait()
                if self._projecting.pause > BUSY_SECONDS:
                    # Most of these tasks end before their turn comes: one write for both.
                    await asyncio.sleep(PATIENCE * self._projecting.pause)
                claims, self._waiting = self._waiting, {}
                if claims:
                    await self._apply(claims)
                pace.done(len(claims))
        finally:
            if not self._bus.nc.is_closed:
                await subscription.unsubscribe()

    def take(self, uids: Iterable[UUID]) -> dict[UUID, event_pb2.TaskEvent]:
        """Return the waiting claims of these tasks; the caller applies them."""
        return {uid: self._waiting.pop(uid) for uid in uids if uid in self._waiting}

    async def hear(self, message: Msg) -> None:
        """Take a claim from the bus; it is applied in its turn."""
        try:
            event = event_pb2.TaskEvent.FromString(message.data)
            self._waiting[UUID(event.task_id)] = event
        except (DecodeError, ValueError):
            log.warning("claims.unreadable", subject=message.subject)
            return
        self._arrived.set()

    async def _apply(self, claims: dict[UUID, event_pb2.TaskEvent]) -> None:
        rows = await self._ledger.store.load(claims)
        folded = [self._ledger.fold(row, [claims[uid]]) for uid, row in rows.items()]
        # A claim that was overtaken is dropped: a later event of the same attempt knows more.
        await self._ledger.commit([self._ledger.change(fold) for fold in folded if fold.changed])
