"""From claims to rows: PENDING becomes RUNNING as soon as a worker begins.

Claims are plain messages, of which each goes to one replica. A lost one is made good by the next event of its attempt.
"""

from __future__ import annotations

import asyncio
from uuid import UUID

import structlog
from google.protobuf.message import DecodeError
from lathe.type.v1 import event_pb2
from nats.aio.msg import Msg

from services.common.bus.connection import Bus
from services.common.bus.topology import claimed_subject
from services.common.tasks.ledger import Ledger

log = structlog.get_logger(__name__)

BATCH = 256
LINGER_SECONDS = 0.005


class Claims:
    """Applies the claims of one kind."""

    def __init__(self, ledger: Ledger, bus: Bus) -> None:
        self._ledger = ledger
        self._bus = bus
        self._waiting: dict[UUID, event_pb2.TaskEvent] = {}
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Apply claims until cancelled."""
        kind = self._ledger.codec.kind.name
        subscription = await self._bus.subscribe(claimed_subject(kind, "*"), self._hear, queue=f"{kind}-projector")
        try:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                claims, self._waiting = self._waiting, {}
                await self._apply(claims)
                # Claims that come thick are applied together; the first of a quiet time never waits.
                await asyncio.sleep(LINGER_SECONDS)
        finally:
            if not self._bus.nc.is_closed:
                await subscription.unsubscribe()

    async def _hear(self, message: Msg) -> None:
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
        # One that is overtaken is dropped: whatever overtook it, a later event of the same attempt knows more.
        await self._ledger.commit([self._ledger.change(fold) for fold in folded if fold.changed])
