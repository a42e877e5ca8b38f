"""Lists: filters, search, order and paging of one table, as one SQL query per page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from google.protobuf.message import Message
from lathe.type.v1.view_pb2 import VIEW_FULL

from services.database.pool import Record
from services.platform.errors import invalid_argument
from services.platform.identity import current_user
from services.platform.messages import MAX_PAGE_BYTES, reduced
from services.resources.conditions import Condition, Conditions, add_equalities, add_parent, values_of
from services.resources.ordering import Order, parse_order
from services.resources.paging import Position, decode_token, encode_token, page_size
from services.resources.search import add_search

__all__ = ["Condition", "ListQuery", "Listing", "list_page"]

M = TypeVar("M", bound=Message)
# The rows of a page are in memory at once, and hold more than a page shows.
MAX_STORED_BYTES = 16_000_000
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
class ListQuery:
    """What a List request asks for. Empty fields ask for nothing."""

    # Full name of the request: a page token of another method is refused.
    method: str = ""
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
    # Whether entries are whole; else their details are left out.
    full: bool = False

    @classmethod
    def from_request(
        cls, request: Any, *, filters: Mapping[str, object] | None = None, conditions: Sequence[Condition] = ()
    ) -> ListQuery:
        """Read the fields that every List request has; filters with zero values (unset proto fields) are dropped."""
        return cls(
            method=request.DESCRIPTOR.full_name,
            page_size=request.page_size,
            page_token=request.page_token,
            order_by=request.order_by,
            search=request.search,
            owner=current_user() if request.mine_only else "",
            labels=dict(getattr(request, "labels", {})),
            parent=getattr(request, "parent", ""),
            filters={column: value for column, value in (filters or {}).items() if value},
            conditions=conditions,
            full=getattr(request, "view", None) == VIEW_FULL,
        )

    def described(self, order: Order) -> object:
        """Return what a page token is bound to: everything but the page."""
        conditions = [[condition.sql, *map(str, condition.values)] for condition in self.conditions]
        filters = {column: values_of(value) for column, value in self.filters.items()}
        return [self.method, order.sql, self.search, self.owner, dict(self.labels), self.parent, filters, conditions]


@dataclass(frozen=True)
class Listing:
    """What can be listed: a table with the columns of `resource_table`, or some of them.

    Attributes:
        table: the table.
        columns: what to select, for example `body`.
        stored: columns, among them the large ones, whose sizes say how many rows are read at once.
        details: fields of the messages that are left out of one that is too large for any page.
        order_fields: fields that users may sort by → Python types. Each is a NOT NULL column of the same name.
        default_order: the order if the request names none.
        arrays: columns that hold arrays: a filter's value must be among the elements.
    """

    table: str
    columns: str = "body"
    stored: Sequence[str] = ("body",)
    details: Collection[str] = ()
    order_fields: Mapping[str, type] = field(default_factory=lambda: ORDER_FIELDS)
    default_order: str = "create_time desc"
    arrays: frozenset[str] = frozenset()


async def list_page(
    reader: Reader,
    listing: Listing,
    query: ListQuery,
    show: Callable[[Record], M],
    fill: Callable[[list[M]], Awaitable[object]] | None = None,
) -> tuple[list[M], str]:
    """Return one page of messages, and the token of the next page (empty on the last).

    A page has `page_size` messages, or as many fewer as fit in MAX_PAGE_BYTES, but one at least: what is too large
    alone is shown without details.

    A search that finds nothing is repeated with tolerance for typing slips.

    Args:
        reader: What runs the query.
        listing: What is listed.
        query: What the request asks for.
        show: Returns the message of a row, in the requested view.
        fill: Sets what is not in the rows, before the page is cut to its size.

    Raises:
        LatheError: INVALID_ARGUMENT for a bad page_size, page_token, order_by or filter.
    """
    size = page_size(query.page_size)
    order = parse_order(query.order_by, listing.order_fields, listing.default_order)
    _refuse_nul(query)
    page = _Page(listing, query, order, _position(listing, query, order), limit=size + 1)
    rows, more = await page.fetch(reader)
    if not rows and query.search and not query.page_token:
        page = replace(page, position=Position((), fuzzy=True))
        rows, more = await page.fetch(reader)
    messages = [reduced(show(row), listing.details) for row in rows[:size]]
    if fill is not None:
        await fill(messages)
    shown = messages[: _fitting(messages)]
    if len(shown) == len(rows) and not more:
        return shown, ""
    last = rows[len(shown) - 1]
    position = Position(tuple(last[name] for name in order.names), page.position.fuzzy)
    return shown, encode_token(position, query.described(order))


def _fitting(messages: Sequence[Message]) -> int:
    """Return how many of the first messages fit in an answer."""
    room = MAX_PAGE_BYTES
    for count, message in enumerate(messages):
        room -= message.ByteSize()
        if room < 0:
            return max(count, 1)
    return len(messages)


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

    async def fetch(self, reader: Reader) -> tuple[list[Record], bool]:
        """Return the rows, and whether there are more that would be too much at once."""
        if self.query.search.strip():
            # A frequent word fills the page from the next rows in order, a rare one from the index on grams, and each
            # way is slow for the other. The planner cannot tell them apart: it takes grams to be independent.
            rows, more = await self._run(reader, walk=SEARCH_WALK)
            if more or len(rows) == self.limit:
                return rows, more
        return await self._run(reader)

    async def _run(self, reader: Reader, walk: int = 0) -> tuple[list[Record], bool]:
        """Fetch from the whole table, or from the next rows in order only."""
        conditions = Conditions()
        _add_filters(conditions, self.query, self.listing.arrays)
        if self.position.values:
            self.order.add_after(conditions, self.position.values)
        source, order = self.listing.table, self.order.sql
        if walk:
            source = f"(SELECT * FROM {source}{conditions.where} ORDER BY {order} LIMIT {walk}) AS next"  # noqa: S608
            conditions = Conditions(conditions.args)
        if self.query.search.strip():
            add_search(conditions, self.query.search, fuzzy=self.position.fuzzy, indexed=not walk)
        # Names of columns are the program's own; what users send travels as parameters.
        found = f"SELECT * FROM {source}{conditions.where} ORDER BY {order} LIMIT {self.limit}"  # noqa: S608
        # PostgreSQL knows the sizes without reading what is large.
        bytes_ = " + ".join(f"octet_length({column})" for column in self.listing.stored)
        summed = f"SELECT *, sum({bytes_}) OVER (ORDER BY {order} ROWS UNBOUNDED PRECEDING) AS read FROM ({found}) f"  # noqa: S608
        columns = ", ".join([self.listing.columns, *self.order.names, "read"])
        text = f"SELECT {columns} FROM ({summed}) s WHERE read - ({bytes_}) < {MAX_STORED_BYTES} ORDER BY {order}"  # noqa: S608
        rows: list[Record] = await reader.fetch(text, *conditions.args)
        return rows, bool(rows) and rows[-1]["read"] >= MAX_STORED_BYTES


def _add_filters(conditions: Conditions, query: ListQuery, arrays: Collection[str]) -> None:
    if query.owner:
        conditions.add("owner = {}", query.owner)
    if query.labels:
        conditions.add("labels @> {}", dict(query.labels))
    if query.parent:
        add_parent(conditions, query.parent)
    add_equalities(conditions, query.filters, arrays)
    for condition in query.conditions:
        conditions.add(condition.sql, *condition.values)


def _refuse_nul(query: ListQuery) -> None:
    texts = {"parent": [query.parent], "labels": [*query.labels, *query.labels.values()]}
    texts |= {
        column: [text for text in values_of(value) if isinstance(text, str)] for column, value in query.filters.items()
    }
    for name, values in texts.items():
        if any("\0" in value for value in values):
            raise invalid_argument(name, "The text contains a NUL character. Remove it.")
