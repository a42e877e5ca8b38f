"""From the table of changes to the stream: in order, each once, and none lost.

The rows of a batch are taken and the batch is published in one transaction, so that they stay if it is not stored. The
replicas of a service take turns by the locks of the rows, and one that dies lets go of them. If a process dies after
the batch was stored and before its rows are gone, the next one publishes them again, and the stream drops the repeats.
"""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from services.bus.batch import Message, publish_all
from services.bus.connection import Bus, BusUnavailableError
from services.changes.outbox import take_changes
from services.database.pool import Database

log = structlog.get_logger(__name__)

BATCH = 500
# A batch of n is followed by a pause of n times the shortest: many changes at once cost little each.
SHORTEST_SECONDS = 0.002
LONGEST_SECONDS = 0.1
_DATABASE_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
# What was taken comes back if the process or its machine dies; no need to wait for the disk a second time.
_SETTINGS = "SET LOCAL synchronous_commit = off; SET LOCAL idle_in_transaction_session_timeout = '30s'"


class Publisher:
    """Publishes the changes of one schema. `poll` is in seconds: so often it looks for what other processes left."""

    def __init__(self, database: Database, bus: Bus, poll: float = 1.0) -> None:
        self._database = database
        self._bus = bus
        self._poll = poll
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Publish at once: there are new changes, and they are committed."""
        self._woken.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            self._woken.clear()
            try:
                count = await self.publish()
            except (BusUnavailableError, *_DATABASE_AWAY) as error:
                log.info("changes.deferred", error=str(error) or type(error).__name__)
                await asyncio.sleep(self._poll)
                continue
            await asyncio.sleep(min(count * SHORTEST_SECONDS, LONGEST_SECONDS))
            if count == BATCH:
                continue
            try:
                async with asyncio.timeout(self._poll):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def publish(self) -> int:
        """Publish the oldest changes, and return how many.

        Raises:
            BusUnavailableError: They stay where they are.
        """
        if not await self._database.fetchval("SELECT EXISTS (SELECT FROM changes)"):
            return 0
        async with self._database.transaction() as connection:
            await connection.execute(_SETTINGS)
            changes = await take_changes(connection, BATCH)
            await publish_all(self._bus, [Message(each.subject, each.payload, each.msg_id) for each in changes])
        return len(changes)
