"""Reading resources in PostgreSQL: those that the caller may see, by name, by a value, and in pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Generic, TypeVar

from google.protobuf.message import Message

from services.database.arrays import of_any_length
from services.database.gathering import GatheredRows
from services.database.pool import Connection, Database, Record
from services.platform import errors
from services.platform.access import is_visible, require_change
from services.resources.filters.fields import COMMON_FIELDS, TEXT, Fields
from services.resources.kind import ResourceKind
from services.resources.listing import Entries, Listing, ListQuery, list_page
from services.resources.scope import READABLE

M = TypeVar("M", bound=Message)
_NAMES = of_any_length("$1::text[]")


class ResourceReader(Generic[M]):
    """Reads the resources of one kind."""

    def __init__(self, database: Database, kind: ResourceKind[M]) -> None:
        self._database = database
        self._kind = kind
        extra = [*kind.live, *(["project"] if kind.withhold is not None else [])]
        self._listing = Listing(
            kind.table,
            columns=", ".join(["body", *extra]),
            details=kind.detail_fields,
            fields={**COMMON_FIELDS, **_project_field(kind), **kind.fields},
            default_order=kind.default_order,
            visible="" if kind.scope is None else READABLE,
        )
        columns = ", ".join(["body || detail AS body", *extra])
        self._checked = columns if kind.scope is None else f"{columns}, readers"
        self._full_listing = replace(self._listing, columns=columns, stored=("body", "detail"))
        self._named = GatheredRows(self._by_name)

    async def get(self, name: str, *, for_update: bool = False, connection: Connection | None = None) -> M:
        """Return a resource; LatheError NOT_FOUND if there is none.

        With `for_update`, nobody else changes it until the transaction of `connection` ends.
        """
        if for_update or connection is not None:
            found = await self.find("name", name, for_update=for_update, connection=connection)
        else:
            found = self._seen(None if "\0" in name else await self._named.get(name))
        if found is None:
            raise errors.not_found(self._kind.noun, name)
        return found

    async def require_change(self, name: str, connection: Connection | None = None) -> None:
        """Refuse, before work that takes long, who may not change a resource.

        Raises:
            LatheError: NOT_FOUND; PERMISSION_DENIED, reason ROLE_REQUIRED.
        """
        query = f"SELECT project, readers FROM {self._kind.table} WHERE name = $1"  # noqa: S608 - our own table
        row = None if "\0" in name else await (connection or self._database).fetchrow(query, name)
        if row is None:
            raise errors.not_found(self._kind.noun, name)
        require_change(self._kind.noun, name, row["project"], row["readers"])

    async def find(
        self, column: str, value: object, *, for_update: bool = False, connection: Connection | Database | None = None
    ) -> M | None:
        """Return the oldest resource with this value in a column, or None."""
        if isinstance(value, str) and "\0" in value:
            return None
        lock = " FOR UPDATE" if for_update else ""
        query = f"SELECT {self._checked} FROM {self._kind.table} s WHERE {column} = $1 ORDER BY uid LIMIT 1{lock}"  # noqa: S608
        return self._seen(await (connection or self._database).fetchrow(query, value))

    async def get_many(self, names: Iterable[str], *, full: bool = False) -> dict[str, M]:
        """Return those of the named resources that exist, by name; their detail fields only if `full`."""
        body = "body || detail AS body" if full else "body"
        columns = [body, *(["readers"] if self._kind.scope else []), *(["project"] if self._kind.withhold else [])]
        query = f"SELECT name, {', '.join(columns)} FROM {self._kind.table} WHERE name = ANY ({_NAMES})"  # noqa: S608 - our own table
        rows = await self._database.fetch(query, [name for name in names if "\0" not in name])
        found: dict[str, M] = {}
        for row in rows:
            if self._kind.scope is None or is_visible(row["readers"]):
                found[row["name"]] = self._kind.parse(row["body"])
                self._kind.tell(found[row["name"]], row)
        return found

    async def list(
        self, query: ListQuery, entries: Entries[M], fill: Callable[[list[M]], Awaitable[object]] | None = None
    ) -> str:
        """Make one page, as `list_page`; a full view has the kind's detail fields. `fill` sets what is not stored."""
        listing, show = (self._full_listing, self._kind.fill) if query.full else (self._listing, self._kind.fill_brief)
        return await list_page(self._database, listing, query, entries, show, fill=fill)

    def _seen(self, row: Record | None) -> M | None:
        """Return the message of a row if there is one, and if the caller may see it."""
        if row is None or (self._kind.scope is not None and not is_visible(row["readers"])):
            return None
        return self._kind.read(row)

    async def _by_name(self, names: Collection[str]) -> Mapping[str, Record]:
        query = f"SELECT name, {self._checked} FROM {self._kind.table} s WHERE name = ANY ({_NAMES})"  # noqa: S608
        return {row["name"]: row for row in await self._database.fetch(query, list(names))}


def _project_field(kind: ResourceKind[M]) -> Fields:
    """Return the field `project` of lists, if the resources of a kind state theirs."""
    return {"project": TEXT} if "project" in kind.message_type.DESCRIPTOR.fields_by_name else {}
