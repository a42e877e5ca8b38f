"""Lists: filters, search, order and paging of one table, as one SQL query per page."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from services.common.database import Record
from services.common.errors import invalid_argument
from services.common.identity import current_user
from services.common.ordering import Order, parse_order
from services.common.paging import Position, decode_token, encode_token, page_size
from services.common.search import add_search
from services.common.sql import Conditions

__all__ = ["Condition", "ListQuery", "Listing", "list_rows"]

# A page has to stay under gRPC's 4 MiB, with what services add to a resource that is stored.
MAX_PAGE_BYTES = 3_000_000
# Rows that a search looks through in order before it asks the index.
SEARCH_WALK = 10_000
ORDER_FIELDS: Mapping[str, type] = {
    "create_time": datetime,
    "update_time": datetime,
    "display_name": str,
    "name": str,
}


class Reader(Protocol):
    """A `Database` or a connection."""

    async def fetch(self, query: str, *args: object) -> Any:
        """Return every row of a query."""


@dataclass(frozen=True)
class Condition:
    """A condition that an equality cannot say, for example `Condition("{} = ANY (devices)", ("cpu-x86-64",))`."""

    sql: str
    values: tuple[object, ...] = ()


@dataclass(frozen=True)
class ListQuery:
    """What a List request asks for. Empty fields ask for nothing."""

    page_size: int = 0
    page_token: str = ""
    order_by: str = ""
    search: str = ""
    owner: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    # A resource name; `-` as an id stands for every one: `models/-`.
    parent: str = ""
    # Column → value, or a sequence of which one must match.
    filters: Mapping[str, object] = field(default_factory=dict)
    conditions: Sequence[Condition] = ()

    @classmethod
    def from_request(
        cls, request: Any, *, filters: Mapping[str, object] | None = None, conditions: Sequence[Condition] = ()
    ) -> ListQuery:
        """Read the fields that every List request has; filters with zero values (unset proto fields) are dropped."""
        return cls(
            page_size=request.page_size,
            page_token=request.page_token,
            order_by=request.order_by,
            search=request.search,
            owner=current_user() if request.mine_only else "",
            labels=dict(request.labels),
            parent=getattr(request, "parent", ""),
            filters={column: value for column, value in (filters or {}).items() if value},
            conditions=conditions,
        )

    def described(self, order: Order) -> object:
        """Return what a page token is bound to: everything but the page."""
        conditions = [[condition.sql, *map(str, condition.values)] for condition in self.conditions]
        filters = {column: _values(value) for column, value in self.filters.items()}
        return [order.sql, self.search, self.owner, dict(self.labels), self.parent, filters, conditions]


@dataclass(frozen=True)
class Listing:
    """What can be listed: a table with the columns of `resource_table`, or some of them.

    Attributes:
        table: the table.
        columns: what to select, for example `body`.
        order_fields: fields that users may sort by → Python types. Each is a NOT NULL column of the same name.
        default_order: the order where none is asked for.
        arrays: columns that hold arrays: a filter's value must be among the elements.
    """

    table: str
    columns: str = "body"
    order_fields: Mapping[str, type] = field(default_factory=lambda: ORDER_FIELDS)
    default_order: str = "create_time desc"
    arrays: frozenset[str] = frozenset()


async def list_rows(reader: Reader, listing: Listing, query: ListQuery) -> tuple[list[Record], str]:
    """Return one page of rows, and the token of the next page (empty on the last).

    A page has `page_size` rows, or as many fewer as fit in MAX_PAGE_BYTES, but one at least.

    A search that finds nothing is repeated with tolerance for typing slips.

    Raises:
        LatheError: INVALID_ARGUMENT for a bad page_size, page_token, order_by or filter.
    """
    size = page_size(query.page_size)
    order = parse_order(query.order_by, listing.order_fields, listing.default_order)
    _refuse_nul(query)
    page = _Page(listing, query, order, _position(listing, query, order), limit=size + 1)
    rows = await page.fetch(reader)
    if not rows and query.search and not query.page_token:
        page = replace(page, position=Position((), fuzzy=True))
        rows = await page.fetch(reader)
    kept = rows[: min(size, _fitting(rows))]
    if len(kept) == len(rows):
        return rows, ""
    last = Position(tuple(kept[-1][name] for name in order.names), page.position.fuzzy)
    return kept, encode_token(last, query.described(order))


def _fitting(rows: Sequence[Record]) -> int:
    """Return how many of the first rows fit in an answer."""
    room = MAX_PAGE_BYTES
    for count, row in enumerate(rows):
        room -= sum(len(value) for value in row.values() if isinstance(value, bytes))
        if room < 0:
            return max(count, 1)
    return len(rows)


def _position(listing: Listing, query: ListQuery, order: Order) -> Position:
    if not query.page_token:
        return Position(())
    types = [UUID if name == "uid" else listing.order_fields[name] for name in order.names]
    return decode_token(query.page_token, query.described(order), types)


@dataclass(frozen=True)
class _Page:
    """One page of a list, and one row more, which tells whether there is a next page."""

    listing: Listing
    query: ListQuery
    order: Order
    position: Position
    limit: int

    async def fetch(self, reader: Reader) -> list[Record]:
        rows: list[Record] = []
        if self.query.search.strip():
            # A frequent word fills the page from the next rows in order, a rare one from the index on grams, and each
            # way is slow for the other. The planner cannot tell them apart: it takes grams to be independent.
            rows = await self._run(reader, walk=SEARCH_WALK)
        return rows if len(rows) == self.limit else await self._run(reader)

    async def _run(self, reader: Reader, walk: int = 0) -> list[Record]:
        """Fetch from the whole table, or from the next rows in order only."""
        conditions = Conditions()
        _add_filters(conditions, self.query, self.listing.arrays)
        if self.position.values:
            self.order.add_after(conditions, self.position.values)
        source = self.listing.table
        if walk:
            source = f"(SELECT * FROM {source}{conditions.where} ORDER BY {self.order.sql} LIMIT {walk}) AS next"  # noqa: S608
            conditions = Conditions(conditions.args)
        if self.query.search.strip():
            add_search(conditions, self.query.search, fuzzy=self.position.fuzzy, indexed=not walk)
        # Names of columns are the program's own; what users send travels as parameters.
        columns = ", ".join([self.listing.columns, *self.order.names])
        text = f"SELECT {columns} FROM {source}{conditions.where} ORDER BY {self.order.sql} LIMIT {self.limit}"  # noqa: S608
        rows: list[Record] = await reader.fetch(text, *conditions.args)
        return rows


def _add_filters(conditions: Conditions, query: ListQuery, arrays: Collection[str]) -> None:
    if query.owner:
        conditions.add("owner = {}", query.owner)
    if query.labels:
        conditions.add("labels @> {}", dict(query.labels))
    if query.parent:
        _add_parent(conditions, query.parent)
    for column, value in query.filters.items():
        values = _values(value)
        if column in arrays:
            # In the form that an index on the elements answers.
            conditions.add(f"{column} @> {{}}", values)
        elif len(values) == 1:
            conditions.add(f"{column} = {{}}", values[0])
        else:
            conditions.add(f"{column} = ANY ({{}})", values)
    for condition in query.conditions:
        conditions.add(condition.sql, *condition.values)


def _add_parent(conditions: Conditions, parent: str) -> None:
    segments = parent.split("/")
    ids = segments[1::2]
    if "-" not in ids:
        conditions.add("parent = {}", parent)
    elif set(ids) != {"-"}:
        for position, segment in enumerate(segments, start=1):
            if segment != "-":
                conditions.add(f"split_part(parent, '/', {position}) = {{}}", segment)


def _values(value: object) -> list[object]:
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]


def _refuse_nul(query: ListQuery) -> None:
    texts = {"parent": [query.parent], "labels": [*query.labels, *query.labels.values()]}
    texts |= {
        column: [text for text in _values(value) if isinstance(text, str)] for column, value in query.filters.items()
    }
    for name, values in texts.items():
        if any("\0" in value for value in values):
            raise invalid_argument(name, "The text contains a NUL character. Remove it.")
