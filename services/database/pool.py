"""PostgreSQL: one pool per process, one schema per service.

Queries go through asyncpg directly: it speaks the binary protocol and prepares statements, which makes a simple query
several times cheaper than through an ORM. Alembic (and the SQLAlchemy that it needs) is loaded only to migrate.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import asyncpg

from services.database.migration import migrate

__all__ = ["Connection", "Database", "Record", "migrate"]

Connection = Any
"""An asyncpg connection (asyncpg publishes no types)."""
Record = Any
"""An asyncpg record: values by column name or position."""

ACQUIRE_TIMEOUT_SECONDS = 30.0
CONNECT_TIMEOUT_SECONDS = 10.0
KEPT = 4
"""Connections that wait for the next query outside the pool, which closes others when they were idle for minutes.

They take turns, so that health checks and publishers use each every few seconds: what forgets connections that say
nothing, as some networks do, forgets none of them.
"""


class _Undo(Exception):  # noqa: N818 - nothing went wrong
    """Rolls a transaction back."""


class Database:
    """A pool of connections whose search path is the service's schema, then `lathe` (shared functions)."""

    def __init__(self, pool: Any, schema: str) -> None:
        self._pool = pool
        self._most: int = pool.get_max_size()
        self._lent = 0
        self._kept: deque[Connection] = deque()
        self._keeps = KEPT
        self.schema = schema

    @classmethod
    async def connect(cls, url: str, schema: str, *, min_size: int = 1, max_size: int = 10) -> Database:
        """Open the pool.

        Args:
            url: `postgresql://user:password@host:port/database`.
            schema: the service's schema; it need not exist yet.
            min_size: connections that are opened now and kept.
            max_size: most connections of this process.

        Raises:
            OSError, asyncpg.PostgresError: the server does not answer or refuses.
        """
        pool = await asyncpg.create_pool(
            url,
            min_size=min_size,
            max_size=max_size,
            timeout=CONNECT_TIMEOUT_SECONDS,
            init=_prepare_connection,
            reset=_reset_connection,
            server_settings={
                "search_path": f'"{schema}", lathe',
                "application_name": f"lathe-{schema}",
                # It costs more than it gives on queries that take milliseconds.
                "jit": "off",
                # Keeps the bitmap of a search exact up to some million rows; beyond it, every row is looked at again.
                "work_mem": "32MB",
            },
        )
        return cls(pool, schema)

    async def close(self) -> None:
        """Wait for running queries, then close every connection."""
        self._keeps = 0
        while self._kept:
            await self._pool.release(self._kept.popleft())
        await self._pool.close()

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """Borrow a connection outside any transaction.

        Raises:
            asyncpg.InterfaceError: The connection is closed or unusable; the next one will not be.
        """
        return _Borrowed(self)

    async def borrow(self) -> Connection:
        """Return a connection that `give_back` takes again."""
        self._lent += 1
        try:
            while self._kept:
                kept = self._kept.popleft()
                with suppress(asyncpg.InterfaceError):  # closed meanwhile, and with the pool again
                    if not kept.is_closed():
                        return kept
            # Waiting with a time limit costs a task and a timer; if a connection is free, nobody waits.
            return await self._pool.acquire(timeout=None if self._lent <= self._most else ACQUIRE_TIMEOUT_SECONDS)
        except BaseException:
            self._lent -= 1
            raise

    async def give_back(self, connection: Connection, *, spoilt: bool) -> None:
        """Keep a connection for the next query, or give it to the pool, which mends it if it is `spoilt`."""
        self._lent -= 1
        # Who waits, waits for the pool.
        if spoilt or len(self._kept) >= self._keeps or self._lent >= self._most:
            await self._pool.release(connection)
        else:
            self._kept.append(connection)

    @asynccontextmanager
    async def transaction(self, joined: Connection | None = None, *, undo: bool = False) -> AsyncIterator[Connection]:
        """Borrow a connection inside a transaction: committed at the end of the block, rolled back by an exception.

        Args:
            joined: a connection whose transaction the block becomes part of instead, if not None.
            undo: rolls back at the end of the block, too: it was only to be seen whether all of it can be done.
        """
        if joined is not None:
            yield joined
            return
        with suppress(_Undo):
            async with self.connection() as connection, connection.transaction():
                yield connection
                if undo:
                    raise _Undo

    async def fetch(self, query: str, *args: object) -> list[Record]:
        """Return every row of a query."""
        async with self.connection() as connection:
            rows: list[Record] = await connection.fetch(query, *args)
            return rows

    async def fetchrow(self, query: str, *args: object) -> Record | None:
        """Return the first row of a query, or None."""
        async with self.connection() as connection:
            return await connection.fetchrow(query, *args)

    async def fetchval(self, query: str, *args: object) -> Any:
        """Return the first value of the first row, or None."""
        async with self.connection() as connection:
            return await connection.fetchval(query, *args)

    async def execute(self, query: str, *args: object) -> str:
        """Run a statement and return its command tag, for example `UPDATE 1`."""
        async with self.connection() as connection:
            tag: str = await connection.execute(query, *args)
            return tag

    async def executemany(self, query: str, args: Iterable[Iterable[object]]) -> None:
        """Run a statement once per argument list, atomically, in one network round."""
        async with self.connection() as connection:
            await connection.executemany(query, args)


class _Borrowed:
    """A connection within a block. To write it as a generator would take as long as a part of the query."""

    __slots__ = ("_connection", "_database")

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> Connection:
        self._connection = await self._database.borrow()
        return self._connection

    async def __aexit__(self, kind: object, error: BaseException | None, _trace: object) -> None:
        unusable = isinstance(error, asyncpg.InternalClientError)
        if unusable:  # a query that was given up at an unlucky moment left it in the middle of something
            self._connection.terminate()
        await self._database.give_back(self._connection, spoilt=error is not None)
        if unusable:
            raise asyncpg.InterfaceError(f"The connection is unusable: {error}") from error


async def _prepare_connection(connection: Connection) -> None:
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")


async def _reset_connection(connection: Connection) -> None:
    # The default reset is one more network round for every query. Nothing here leaves session state behind except a
    # transaction whose owner was cancelled.
    if connection.is_in_transaction():
        await connection.reset()
