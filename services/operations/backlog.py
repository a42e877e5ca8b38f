"""Which work goes on, and who does each piece: rows with a lease, so that another process takes over from a dead one.

The row of a piece of work is made in the transaction that makes its resource one that is worked on, and is removed in
the transaction that writes the result. Progress changes too often to be part of the resource.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from services.database.pool import Connection, Database

__all__ = ["Backlog", "Claim", "backlog_table"]


def backlog_table(table: str, key: str, resources: str) -> list[str]:
    """Return the statements that create the table of a backlog, for migrations. Their results never change.

    Args:
        table: its name.
        key: definition of the column that says which resource is worked on: `upload uuid`.
        resources: the resources, with their column: `uploads (uid)`. If one is deleted, its work ends.
    """
    create = f"""
        CREATE TABLE {table} (
            {key} PRIMARY KEY REFERENCES {resources} ON DELETE CASCADE,
            attempts int NOT NULL DEFAULT 0,
            -- Whoever works on it renews the lease; when that has passed, whoever comes first takes over.
            holder uuid,
            lease_time timestamptz NOT NULL,
            progress double precision NOT NULL DEFAULT 0,
            create_time timestamptz NOT NULL
        )
    """
    return [create, f"CREATE INDEX ON {table} (lease_time)"]


@dataclass(frozen=True)
class Claim:
    """A piece of work that this process does.

    Attributes:
        key: Which resource is worked on: its name, or its uid.
        holder: Made for this claim; the next holder has another.
        attempt: Number of this attempt, from 1.
        row: The row of the work, for what a backlog keeps beside the common columns.
    """

    key: Any
    holder: UUID
    attempt: int
    row: Mapping[str, Any]


class Backlog:
    """The table of one kind of work that goes on."""

    def __init__(self, database: Database, table: str, key: str, lease: timedelta) -> None:
        """Keep work in `table`, whose key is the column `key`; what is not renewed for `lease` is free again."""
        self._database = database
        self._table = table
        self._key = key
        self._lease = lease
        self.seconds = lease.total_seconds()

    async def begin(self, connection: Connection, key: object, **more: object) -> None:
        """Add work on a resource, inside the transaction that makes it one that is worked on.

        Args:
            connection: The transaction.
            key: Which resource.
            more: Values of further columns.
        """
        columns = ", ".join((self._key, "lease_time", "create_time", *more))
        values = ", ".join(("$1", "now()", "now()", *(f"${number}" for number in range(2, len(more) + 2))))
        await connection.execute(f"INSERT INTO {self._table} ({columns}) VALUES ({values})", key, *more.values())  # noqa: S608

    async def claim(self) -> Claim | None:
        """Take work that nobody does, or whose lease has passed, the oldest first; None if there is none."""
        # Two processes that look at once find two different pieces.
        oldest = f"""
            SELECT {self._key} FROM {self._table} WHERE lease_time <= now()
            ORDER BY lease_time LIMIT 1 FOR UPDATE SKIP LOCKED
        """  # noqa: S608 - names of tables and columns are the program's own
        holder = uuid4()
        row = await self._database.fetchrow(
            f"UPDATE {self._table} SET holder = $1, attempts = attempts + 1, lease_time = now() + $2::interval "  # noqa: S608
            f"WHERE {self._key} = ({oldest}) RETURNING *",
            holder,
            self._lease,
        )
        return None if row is None else Claim(row[self._key], holder, row["attempts"], row)

    async def renew(self, claim: Claim, progress: float) -> bool:
        """Renew the lease and write the progress; False if another process took over, or the work is not wanted."""
        renewed = await self._database.fetchval(
            f"UPDATE {self._table} SET lease_time = now() + $3::interval, progress = $4 "  # noqa: S608
            f"WHERE {self._key} = $1 AND holder = $2 RETURNING true",
            claim.key,
            claim.holder,
            self._lease,
            progress,
        )
        return renewed is not None

    async def give_back(self, claim: Claim, after: timedelta = timedelta(), *, counted: bool = True) -> None:
        """Let others take the work after some time; an attempt that is not counted never was."""
        await self._database.execute(
            f"UPDATE {self._table} SET holder = NULL, lease_time = now() + $3::interval, attempts = attempts - $4::int "  # noqa: S608
            f"WHERE {self._key} = $1 AND holder = $2",
            claim.key,
            claim.holder,
            after,
            0 if counted else 1,
        )

    async def end(self, connection: Connection, claim: Claim) -> bool:
        """Remove work that ended, inside the transaction that says so; False if it is not this process's any more."""
        query = f"DELETE FROM {self._table} WHERE {self._key} = $1 AND holder = $2 RETURNING true"  # noqa: S608
        return await connection.fetchval(query, claim.key, claim.holder) is not None

    async def drop(self, connection: Connection, key: object) -> None:
        """Remove work that is not wanted any more, whoever does it."""
        await connection.execute(f"DELETE FROM {self._table} WHERE {self._key} = $1", key)  # noqa: S608

    async def progress(self, keys: Iterable[object]) -> dict[Any, float | None]:
        """Return how far the work on resources is, from 0 to 1, by key; None for what waits for its first attempt."""
        rows = await self._database.fetch(
            f"SELECT {self._key} AS key, progress, attempts FROM {self._table} WHERE {self._key} = ANY ($1)",  # noqa: S608
            list(keys),
        )
        return {row["key"]: row["progress"] if row["attempts"] else None for row in rows}
