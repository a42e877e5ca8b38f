"""Deletes tasks that ended long ago, as DeleteTask would, and groups of which no task is left.

What something still needs stays: tasks whose result others await, tasks that still hold what they refer to, those that
the service (`stay`) and others (`named`) name, and those with the label `keep`. The tasks of a group go together, once
all of them may. The logs and reports of what is deleted are removed by the next collection of garbage, if nothing else
refers to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import structlog
from prometheus_client import Counter

from services.audit.entries import Call, become
from services.database.leases import Leases
from services.database.pool import Database
from services.platform.errors import LatheError
from services.platform.identity import current_caller
from services.tasks.api.groups import Groups
from services.tasks.api.ledger import Ledger
from services.tasks.state.rows import TaskRow, columns_of

log = structlog.get_logger(__name__)

FindNamed = Callable[[Collection[str]], Awaitable[Collection[str]]]
"""Returns those of some tasks, by name, that are needed elsewhere. Raises LatheError if that cannot be found out."""

KEEP = "keep"
"""The label of tasks and groups that stay, whatever its value."""

EXPIRED = Counter("lathe_tasks_expired", "Tasks that were deleted because they had ended so long ago.", ["kind"])
_BATCH = 200
_EVERY_SECONDS = 3600.0
_DATABASE_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
_NIL = UUID(int=0)
_FIRST = datetime(1970, 1, 1, tzinfo=UTC)
_FOLLOWED = "EXISTS (SELECT FROM tasks f WHERE f.leader = {0}.uid AND f.state IN (1, 2, 5))"
_EMPTY_GROUPS = """
    SELECT name FROM task_groups g WHERE update_time < $1 AND NOT labels ? $2
    AND NOT EXISTS (SELECT FROM tasks t WHERE t.uses @> ARRAY[g.name])
"""


class Retention:
    """Deletes what ended more than `days` ago; nothing if it is 0. One replica at a time does so."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        groups: Groups,
        *,
        days: int,
        stay: str = "",
        named: FindNamed | None = None,
    ) -> None:
        """Take the tables of one kind.

        Args:
            database: Of the kind.
            ledger: Of the kind.
            groups: Of the kind.
            days: How long a task stays after it ended or was last changed.
            stay: Condition of SQL on a task, named `{0}`, that something needs however old it is.
            named: Finds the tasks that other services name: they stay, too, and their groups with them.
        """
        self.first: list[Callable[[datetime], Awaitable[None]]] = []
        """What deletes other things of before a time, which may name tasks."""
        self._find_named = named
        self._database = database
        self._ledger = ledger
        self._groups = groups
        self._days = days
        self._kind = ledger.codec.kind
        self._leases = Leases(database)
        needed = " OR ".join(filter(None, ("{0}.held", "{0}.labels ? $2", _FOLLOWED, stay)))
        may_go = f"({{0}}.state IN (3, 4, 6) AND {{0}}.update_time < $1 AND NOT ({needed}))"
        groups_of = f"{self._kind.collection.removesuffix('s')}Groups/"
        self._expired = f"""
            SELECT {columns_of("t")}, t.create_time AS created FROM tasks t
            WHERE t.create_time < $1 AND (t.create_time, t.uid) > ($3, $4) AND {may_go.format("t")}
            AND NOT EXISTS (
                SELECT FROM unnest(t.uses) AS g (name) JOIN tasks o ON o.uses @> ARRAY[g.name]
                WHERE starts_with(g.name, '{groups_of}') AND NOT {may_go.format("o")}
            )
            ORDER BY t.create_time, t.uid LIMIT {_BATCH}
        """  # noqa: S608 - our own words
        self._together = f"""
            SELECT t.uid, t.name FROM tasks t WHERE t.uid = ANY ($1)
            UNION
            SELECT t.uid, o.name FROM tasks t CROSS JOIN unnest(t.uses) AS g (name)
            JOIN tasks o ON o.uses @> ARRAY[g.name]
            WHERE t.uid = ANY ($1) AND starts_with(g.name, '{groups_of}')
        """  # noqa: S608 - our own words

    async def run(self) -> None:
        """Delete what is old, every hour until cancelled."""
        while self._days:
            try:
                await self.expire(datetime.now(UTC) - timedelta(days=self._days))
            except (*_DATABASE_AWAY, LatheError) as error:
                log.info("retention.interrupted", error=str(error) or type(error).__name__)
            await asyncio.sleep(_EVERY_SECONDS)

    async def expire(self, before: datetime) -> None:
        """Delete what ended, and was last changed, before a time; unless another replica is doing so."""
        async with self._leases.attempt(f"retention {self._kind.name}") as lease:
            if lease is None:
                return
            for expire in self.first:
                await expire(before)
            noun = self._kind.task_type.DESCRIPTOR.name
            become(by_itself(f"{self._kind.service}/Delete{noun}"))
            created, uid, count = _FIRST, _NIL, 0
            while records := await self._database.fetch(self._expired, before, KEEP, created, uid):
                rows = [TaskRow.of(record) for record in records]
                named = await self._named([row.uid for row in rows])
                for row in rows:
                    # One that was changed in this very moment stays until the next time.
                    count += row.uid not in named and await self._ledger.store.delete(row)
                created, uid = records[-1]["created"], records[-1]["uid"]
            become(by_itself(f"{self._kind.service}/Delete{noun}Group"))
            for record in await self._database.fetch(_EMPTY_GROUPS, before, KEEP):
                await self._groups.delete(record["name"], "")
        if count:
            EXPIRED.labels(self._kind.name).inc(count)
            log.info("retention.deleted", kind=self._kind.name, tasks=count, ended_before=before.isoformat())

    async def _named(self, uids: Sequence[UUID]) -> set[UUID]:
        """Return those of some tasks that other services name, or of whose groups they name a task."""
        if self._find_named is None:
            return set()
        together = await self._database.fetch(self._together, uids)
        named = await self._find_named({row["name"] for row in together})
        return {row["uid"] for row in together if row["name"] in named}


def by_itself(method: str) -> Call:
    """Return what the audit log says of deletions that nobody called for: the service itself made them."""
    return Call(method, current_caller(), peer="", request_id="", trace_id="", target="")
