"""The rows of a `ResourceStore`: writing them, finding a free name, and saying what is taken."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, Generic, TypeVar

import asyncpg
from google.protobuf.message import Message
from lathe.watch.v1.change_pb2 import (
    CHANGE_TYPE_CREATED,
    CHANGE_TYPE_DELETED,
    CHANGE_TYPE_UPDATED,
    Change,
    ChangeType,
)

from services.audit.entries import current_call
from services.changes.outbox import add_change
from services.database.pool import Connection
from services.platform import errors
from services.platform.access import EVERYBODY, is_visible, require_change
from services.resources.kind import ResourceKind, Row
from services.resources.slugs import slug

__all__ = ["ResourceRows"]

M = TypeVar("M", bound=Message)
FIRST_WINDOW = 16
_RETIRE = "INSERT INTO retired_names (name, readers) VALUES ($1, $2) ON CONFLICT DO NOTHING"


class ResourceRows(Generic[M]):
    """Writes the rows of one kind of resource. Every method runs inside the caller's transaction."""

    def __init__(self, kind: ResourceKind[M]) -> None:
        self._kind = kind

    async def insert(
        self, connection: Connection, message: M, *, resource_id: str, parent: str, extra: Mapping[str, object]
    ) -> None:
        """Insert a resource under a given id, or the first free one made from its name. Sets its name and etag."""
        resource: Any = message
        former: list[str] | None = None
        async with aclosing(self._names(connection, message, resource_id, parent)) as names:
            async for resource.name in names:
                row = self._kind.row(message, 1) | dict(extra)
                # The indexes decide a conflict, so that two at once cannot both find a name free; and without an error,
                # which would end the caller's transaction.
                if await self._put(connection, row) is not None:
                    # Asked only now: a deletion at the same moment has ended.
                    former = await self._former_readers(connection, resource.name)
                    if former is None:
                        await self._tell(connection, message, CHANGE_TYPE_CREATED, 1)
                        return
                    await connection.execute(f"DELETE FROM {self._kind.table} WHERE uid = $1", row["uid"])  # noqa: S608
                    continue
                await self._refuse_taken_values(connection, row)
        if former is not None and is_visible(former):
            raise errors.failed_precondition(
                "NAME_RETIRED",
                f"{resource.name!r} was the name of another {self._kind.noun}, which has been deleted. Its name is not "
                "used again, because lineages and results may still refer to it. Choose another id.",
                resource.name,
            )
        raise errors.already_exists(self._kind.noun, resource.name)

    async def _put(self, connection: Connection, row: Row) -> object:
        try:
            return await connection.fetchval(_insert(self._kind.table, row), *row.values())
        except asyncpg.ForeignKeyViolationError as error:
            if "project" in row and str(error.constraint_name) == f"{self._kind.table}_project_fkey":
                raise errors.not_found("project", row["project"]) from None
            raise

    async def remove(self, connection: Connection, message: M, revision: int) -> None:
        """Delete a locked resource; its name is not given again, if others may refer to it."""
        name = getattr(message, "name")  # noqa: B009 - not in Message
        readers = "readers" if self._kind.scope is not None else f"'{{{EVERYBODY}}}'::text[]"
        query = f"DELETE FROM {self._kind.table} WHERE name = $1 RETURNING {readers}"  # noqa: S608
        seen_by = await connection.fetchval(query, name)
        if self._kind.retires_names is not None and self._kind.retires_names(message):
            await connection.execute(_RETIRE, name, seen_by)
        await self._tell(connection, message, CHANGE_TYPE_DELETED, revision + 1)

    async def _former_readers(self, connection: Connection, name: str) -> list[str] | None:
        """Return who could read what had a name that is not given again; None if the name is free."""
        if self._kind.retires_names is None:
            return None
        found: list[str] | None = await connection.fetchval("SELECT readers FROM retired_names WHERE name = $1", name)
        return found

    async def lock(self, connection: Connection, name: str) -> tuple[M, int, str]:
        """Return a resource, its revision and its project, and keep others from changing it until the transaction ends.

        Raises:
            LatheError: NOT_FOUND; PERMISSION_DENIED, reason ROLE_REQUIRED, for who may see but not change it.
        """
        columns = "body || detail AS body, revision"
        if self._kind.scope is not None:
            columns += ", project, readers"
        query = f"SELECT {columns} FROM {self._kind.table} WHERE name = $1 FOR UPDATE"  # noqa: S608 - our own table
        row = None if "\0" in name else await connection.fetchrow(query, name)
        if row is None:
            raise errors.not_found(self._kind.noun, name)
        if self._kind.scope is not None:
            require_change(self._kind.noun, name, row["project"], row["readers"])
        project = "" if self._kind.scope is None else row["project"]
        if (call := current_call()) is not None:
            call.project = project
        return self._kind.parse(row["body"]), row["revision"], project

    async def replace(self, connection: Connection, message: M, revision: int, extra: Mapping[str, object]) -> None:
        """Store a changed resource as a new revision. Sets its etag."""
        resource: Any = message
        row = self._kind.row(message, revision) | dict(extra)
        try:
            async with connection.transaction():  # a savepoint, so that the caller's transaction outlives the error
                await connection.execute(_update(self._kind.table, row), *row.values())
        except asyncpg.UniqueViolationError:
            await self._refuse_taken_values(connection, row)
            raise errors.aborted("CONFLICT", f"'{resource.name}' met a concurrent change. Try again.") from None
        await self._tell(connection, message, CHANGE_TYPE_UPDATED, revision)

    async def _tell(self, connection: Connection, message: M, change: ChangeType.ValueType, revision: int) -> None:
        """Let those who watch this kind of resource know."""
        if not self._kind.watched_as:
            return
        shown: Any = self._kind.without_details(message)
        news = Change(name=shown.name, uid=shown.uid, type=change, revision=revision)
        news.time.CopyFrom(shown.update_time)
        if change == CHANGE_TYPE_DELETED:
            news.time.GetCurrentTime()
        getattr(news, self._kind.watched_as).CopyFrom(shown)
        await add_change(connection, self._kind.watched_as, news)

    async def _names(
        self, connection: Connection, message: M, resource_id: str, parent: str
    ) -> AsyncGenerator[str, None]:
        prefix = self._kind.prefix(parent)
        if resource_id:
            yield prefix + resource_id
            return
        first = prefix + slug(self._kind.id_source(message))
        yield first
        number, window = 2, FIRST_WINDOW
        while True:
            names = [f"{first}-{n}" for n in range(number, number + window)]
            query = f"SELECT name FROM {self._kind.table} WHERE name = ANY ($1)"  # noqa: S608 - our own table
            if self._kind.retires_names is not None:
                query += " UNION ALL SELECT name FROM retired_names WHERE name = ANY ($1)"
            taken = {row["name"] for row in await connection.fetch(query, names)}
            for name in names:
                if name not in taken:
                    yield name
            # Growing windows find the end of a long row of equal names in a few steps.
            number, window = number + window, window * 2

    async def _refuse_taken_values(self, connection: Connection, row: Row) -> None:
        for column in self._kind.unique:
            columns = "name" if self._kind.scope is None else "name, readers"
            query = f"SELECT {columns} FROM {self._kind.table} WHERE {column} = $1 AND uid <> $2"  # noqa: S608 - our own names
            holder = await connection.fetchrow(query, row[column], row["uid"])
            if holder is not None:
                field = self._kind.spoken.get(column, column)
                seen = self._kind.scope is None or is_visible(holder["readers"])
                by, way = (f" by '{holder['name']}'", ", or change that one") if seen else ("", "")
                message = f"{field} '{row[field]}' is taken{by}. Choose another {field}{way}."
                error = errors.already_exists(self._kind.noun, holder["name"] if seen else row["name"], message)
                error.fields.append((field, message))
                raise error


def _insert(table: str, row: Row) -> str:
    placeholders = ", ".join(f"${number}" for number in range(1, len(row) + 1))
    return f"INSERT INTO {table} ({', '.join(row)}) VALUES ({placeholders}) ON CONFLICT DO NOTHING RETURNING uid"  # noqa: S608


def _update(table: str, row: Row) -> str:
    changes = ", ".join(f"{column} = ${number}" for number, column in enumerate(row, start=1) if column != "uid")
    return f"UPDATE {table} SET {changes} WHERE uid = ${list(row).index('uid') + 1}"  # noqa: S608
