"""Mutual exclusion on every replica without holding a connection: a row per name, with an end that is renewed.

    async with leases.hold("releases of models/m/channels/prod") as lease:
        ...  # calls to siblings, copies inside the store
        async with database.transaction() as connection:
            await lease.confirm(connection)
            ...  # what was decided above is written

A process that dies lets its lease run out, and the next one takes over. One that was only slow is stopped as soon as it
finds out: when it renews the lease, and at the latest at `confirm`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import structlog

from services.database.pool import Connection, Database
from services.platform.background import end
from services.platform.errors import LatheError, aborted

__all__ = ["LEASES_TABLE", "KeyedLocks", "Lease", "Leases"]

LEASES_TABLE = """
    CREATE TABLE leases (
        name text COLLATE "C" PRIMARY KEY,
        -- Made for this holding; the next holder has another.
        holder uuid NOT NULL,
        end_time timestamptz NOT NULL
    )
"""
"""The statement that creates the table; part of a migration of each schema that uses leases."""

_FORGOTTEN_AFTER = timedelta(hours=1)
DURATION = timedelta(seconds=15)
_TAKE = """
    INSERT INTO leases (name, holder, end_time) VALUES ($1, $2, now() + $3::interval)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, end_time = excluded.end_time
    WHERE leases.end_time < now()
    RETURNING true
"""
_RENEW = "UPDATE leases SET end_time = now() + $3::interval WHERE name = $1 AND holder = $2"
# The lock keeps others from taking over before the transaction ends.
_CONFIRM = "SELECT true FROM leases WHERE name = $1 AND holder = $2 FOR SHARE"
_END = "DELETE FROM leases WHERE name = $1 AND holder = $2"
_FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 0.5
_DATABASE_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
_log = structlog.get_logger(__name__)


class KeyedLocks:
    """A lock per name in this process; a name that nobody uses takes no memory."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Wait for the lock of a name and hold it; those who wait come in their order."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._users[name] = self._users.get(name, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._users[name] -= 1
            if not self._users[name]:
                del self._users[name], self._locks[name]


@dataclass(frozen=True)
class Lease:
    """A name that this process holds."""

    name: str
    holder: UUID

    async def confirm(self, connection: Connection) -> None:
        """Keep the lease until the transaction of `connection` ends.

        Raises:
            LatheError: ABORTED, reason LEASE_LOST, if another process has taken over.
        """
        if await connection.fetchval(_CONFIRM, self.name, self.holder) is None:
            raise self.lost()

    def lost(self) -> LatheError:
        """Return the error for a lease that somebody else took over."""
        return aborted(
            "LEASE_LOST",
            f"This process was too slow, and another one took over ({self.name}). Nothing was written; try again.",
        )


class Leases:
    """The table of leases of one service."""

    def __init__(self, database: Database, duration: timedelta = DURATION) -> None:
        """Keep leases in `database`; one that is not renewed for `duration` is free again."""
        self._database = database
        self._duration = duration
        # Those who wait in this process queue here, so that only one of them asks the database.
        self._local = KeyedLocks()

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[Lease]:
        """Wait for a name and hold it for the block.

        Raises:
            LatheError: ABORTED, reason LEASE_LOST, in the middle of a block whose lease another process has taken over.
        """
        async with self._local.hold(name):
            pause = _FIRST_PAUSE_SECONDS
            while (lease := await self._take(name)) is None:
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads replicas, no secret
                pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
            async with self._kept(lease):
                yield lease

    @asynccontextmanager
    async def attempt(self, name: str) -> AsyncIterator[Lease | None]:
        """Hold a name for the block as `hold` does, or yield None if somebody else holds it."""
        lease = await self._take(name)
        if lease is None:
            yield None
            return
        async with self._kept(lease):
            yield lease

    async def forget_ended(self) -> None:
        """Remove what processes that died have left behind."""
        await self._database.execute("DELETE FROM leases WHERE end_time < now() - $1::interval", _FORGOTTEN_AFTER)

    async def _take(self, name: str) -> Lease | None:
        lease = Lease(name, uuid4())
        taken = await self._database.fetchval(_TAKE, name, lease.holder, self._duration)
        return lease if taken else None

    @asynccontextmanager
    async def _kept(self, lease: Lease) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(None) as scope:
                renewing = asyncio.create_task(self._renew(lease, scope))
                try:
                    yield
                finally:
                    await end([renewing])
                    with suppress(*_DATABASE_AWAY):  # it runs out by itself
                        await asyncio.shield(self._database.execute(_END, lease.name, lease.holder))
        except TimeoutError as error:
            if scope.expired():
                raise lease.lost() from error
            raise

    async def _renew(self, lease: Lease, scope: asyncio.Timeout) -> None:
        """Renew a lease until it is lost, then end `scope`, which would disturb the new holder."""
        while True:
            await asyncio.sleep(self._duration.total_seconds() / 3)
            try:
                if await self._database.execute(_RENEW, lease.name, lease.holder, self._duration) == "UPDATE 0":
                    scope.reschedule(asyncio.get_running_loop().time())
                    return
            except _DATABASE_AWAY as error:
                _log.warning("lease.not_renewed", lease=lease.name, error=str(error) or type(error).__name__)
