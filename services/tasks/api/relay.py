"""From the outbox to NATS.

Messages that this process just committed are handed over in memory and published at once; their rows are deleted in
batches afterwards. Rows that stay, because the process died or NATS was away, are found by polling, by any replica. A
message that is published twice carries the same Nats-Msg-Id and is stored once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from uuid import UUID

import asyncpg
import structlog

from services.bus.connection import Bus, BusUnavailableError, MessageTooLargeError, SubjectTakenError
from services.database.arrays import of_any_length
from services.database.pool import Connection, Database
from services.platform.background import together
from services.tasks.state.rows import OutboxItem

log = structlog.get_logger(__name__)

LANES = 4
BATCH = 256
DELETE_SECONDS = 0.05
_REMOVE = f"DELETE FROM outbox WHERE id = ANY ({of_any_length('$1::bigint[]')})"  # noqa: S608
_WAITING = f"SELECT DISTINCT task FROM outbox WHERE task = ANY ({of_any_length('$1::uuid[]')})"  # noqa: S608
_DATABASE_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)


class Outbox:
    """The outbox in the service's own PostgreSQL schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self) -> int:
        """Return how many messages wait."""
        return int(await self._database.fetchval("SELECT count(*) FROM outbox"))

    async def remove(self, ids: Sequence[int]) -> None:
        """Remove messages that are published."""
        await self._database.execute(_REMOVE, list(ids))

    async def tasks(self, uids: Sequence[UUID]) -> set[UUID]:
        """Return which of these tasks still have a message to be published."""
        records = await self._database.fetch(_WAITING, list(uids))
        return {record[0] for record in records}


async def overdue(connection: Connection, age_seconds: float, limit: int) -> list[tuple[OutboxItem, bool]]:
    """Lock and return messages that nobody published in time, each with whether it is still needed."""
    records = await connection.fetch(
        "SELECT o.task, o.subject, o.msg_id, coalesce(o.payload, t.assignment), o.id, "
        "coalesce(t.state = 1, FALSE) OR o.subject NOT LIKE 'task.%' "
        "FROM outbox o LEFT JOIN tasks t ON t.uid = o.task "
        "WHERE o.create_time < now() - make_interval(secs => $1) ORDER BY o.id LIMIT $2 FOR UPDATE OF o SKIP LOCKED",
        age_seconds,
        limit,
    )
    return [(OutboxItem(*tuple(record)[:5]), bool(record[5]) and record[3] is not None) for record in records]


class Relay:
    """Publishes the outbox of one service. `poll` and `overdue_after` are in seconds."""

    def __init__(
        self, database: Database, outbox: Outbox, bus: Bus, *, poll: float = 1.0, overdue_after: float = 1.0
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._bus = bus
        self._poll_seconds = poll
        self._overdue_after = overdue_after
        self._handed: deque[OutboxItem] = deque()
        self._sent: list[int] = []
        self._wake = asyncio.Event()
        self._deletable = asyncio.Event()

    def hand(self, item: OutboxItem) -> None:
        """Take a message whose row is committed; it is published by the running relay at once."""
        self._handed.append(item)
        self._wake.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        lanes = (self._publish_handed() for _ in range(LANES))
        await together(*lanes, self._delete_sent(), self._poll())

    async def _publish_handed(self) -> None:
        while True:
            while not self._handed:
                self._wake.clear()
                await self._wake.wait()
            batch = [self._handed.popleft() for _ in range(min(BATCH, len(self._handed)))]
            await self._publish(batch)

    async def _publish(self, batch: list[OutboxItem]) -> None:
        if len(batch) == 1:
            done = [await self._publish_one(batch[0])]
        else:
            done = await asyncio.gather(*(self._publish_one(item) for item in batch))
        # An item without an id is published early here; its row is found, and removed, by polling.
        self._sent += [item.id for item, published in zip(batch, done, strict=True) if published and item.id]
        self._deletable.set()

    async def _publish_one(self, item: OutboxItem) -> bool:
        try:
            await self._bus.publish(item.subject, item.payload, item.msg_id)
        except SubjectTakenError:
            return True  # its message still waits there
        except BusUnavailableError as error:
            log.debug("relay.deferred", subject=item.subject, error=str(error))
            return False
        except MessageTooLargeError as error:
            # The server took more when the task was created.
            log.error("relay.too_large", subject=item.subject, error=str(error))
            return False
        return True

    async def _delete_sent(self) -> None:
        while True:
            await self._deletable.wait()
            self._deletable.clear()
            await asyncio.sleep(DELETE_SECONDS)
            if self._sent:
                ids, self._sent = self._sent, []
                try:
                    await self._outbox.remove(ids)
                except _DATABASE_AWAY as error:
                    # Forgotten here, they would all be published once more.
                    self._sent += ids
                    self._deletable.set()
                    log.debug("relay.delete_deferred", count=len(ids), error=str(error) or type(error).__name__)
                    await asyncio.sleep(self._poll_seconds)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            while self._bus.connected and await self.publish_overdue() == BATCH:
                log.debug("relay.catching_up")

    async def publish_overdue(self) -> int:
        """Publish a batch of rows that waited too long; returns how many were settled."""
        async with self._database.transaction() as connection:
            rows = await overdue(connection, self._overdue_after, BATCH)
            done = [item.id for item, wanted in rows if not wanted]
            live = [item for item, wanted in rows if wanted]
            published = await asyncio.gather(*(self._publish_one(item) for item in live))
            done += [item.id for item, sent in zip(live, published, strict=True) if sent]
            if done:
                await connection.execute(_REMOVE, done)
            return len(done)
