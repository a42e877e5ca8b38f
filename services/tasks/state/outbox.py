"""The messages that rows of the task tables still have to send. They are written with the rows, by `TaskStore`."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from services.database.pool import Connection, Database
from services.tasks.state.rows import OutboxItem


class Outbox:
    """The outbox in the service's own PostgreSQL schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self) -> int:
        """Return how many messages wait."""
        return int(await self._database.fetchval("SELECT count(*) FROM outbox"))

    async def remove(self, ids: Sequence[int]) -> None:
        """Remove messages that are published."""
        await self._database.execute("DELETE FROM outbox WHERE id = ANY ($1)", list(ids))

    async def tasks(self, uids: Sequence[UUID]) -> set[UUID]:
        """Return which of these tasks still have a message to be published."""
        records = await self._database.fetch("SELECT DISTINCT task FROM outbox WHERE task = ANY ($1)", list(uids))
        return {record[0] for record in records}


async def overdue(connection: Connection, age_seconds: float, limit: int) -> list[tuple[OutboxItem, bool]]:
    """Lock and return messages that nobody published in time, each with whether it is still worth it."""
    records = await connection.fetch(
        "SELECT o.task, o.subject, o.msg_id, coalesce(o.payload, t.assignment), o.id, "
        "coalesce(t.state = 1, FALSE) OR o.subject NOT LIKE 'task.%' "
        "FROM outbox o LEFT JOIN tasks t ON t.uid = o.task "
        "WHERE o.create_time < now() - make_interval(secs => $1) ORDER BY o.id LIMIT $2 FOR UPDATE OF o SKIP LOCKED",
        age_seconds,
        limit,
    )
    return [(OutboxItem(*tuple(record)[:5]), bool(record[5]) and record[3] is not None) for record in records]
