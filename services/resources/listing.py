"""Lists: filters, search, order and paging of one table, as one SQL query per page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, TypeVar
from uuid import UUID

import structlog
from google.protobuf.message import Message
from lathe.type.v1.view_pb2 import VIEW_FULL

from services.database.pool import Record
from services.platform.access import count_for, readable
from services.platform.errors import invalid_argument
from services.platform.identity import current_user
from services.platform.messages import MAX_PAGE_BYTES, reduced
from services.resources.conditions import Conditions, add_parent
from services.resources.filters.fields import COMMON_FIELDS, AllTests, Fields, Test, Tests, checked
from services.resources.filters.sql import condition_of
from services.resources.ordering import Order, parse_order
from services.resources.paging import Position, decode_token, encode_token, page_size
from services.resources.rarity import Reader, finds_few
from services.resources.search import add_search

__all__ = ["Entries", "ListQuery", "Listing", "fitting", "list_page"]

M = TypeVar("M", bound=Message)
E_co = TypeVar("E_co", bound=Message, covariant=True)
# The rows of a page are in memory at once, and hold more than a page shows.
MAX_STORED_BYTES = 16_000_000
# A message is never larger than this many times what is stored of it.
_GROWTH = 4
# Rows that a search looks through in order before it asks the index.
SEARCH_WALK = 10_000
_log: Any = structlog.get_logger("lathe.lists")


class Entries(Collection[E_co], Protocol[E_co]):
    """The repeated field of an answer, such as `ListModelsResponse.models`, in which a page is made."""

    def add(self) -> E_co:
        """Return a new, empty entry."""

    def __delitem__(self, which: slice) -> None: ...


@dataclass(frozen=True)
class ListQuery:
    """What a List request asks for. Empty fields ask for nothing."""

    # Full name of the request: a page token of another method is refused.
    method: str = ""
    page_size: int = 0
    page_token: str = ""
    order_by: str = ""
    # As AIP-160 writes it, over the fields of the listing.
    filter: str = ""
    search: str = ""
    owner: str = ""
    # A resource name; `-` as an id stands for every one: `models/-`.
    parent: str = ""
    # Whether entries are whole; else their details are left out.
    full: bool = False

    @classmethod
    def from_request(cls, request: Any) -> ListQuery:
        """Read the fields that List requests have; not every one has all of them."""
        return cls(
            method=request.DESCRIPTOR.full_name,
            page_size=request.page_size,
            page_token=request.page_token,
            order_by=request.order_by,
            filter=request.filter,
            search=getattr(request, "search", ""),
            owner=current_user() if request.mine_only else "",
            parent=getattr(request, "parent", ""),
            full=getattr(request, "view", None) == VIEW_FULL,
        )

    def described(self, order: Order) -> object:
        """Return what a page token is bound to: everything but the page."""
        return [self.method, order.sql, self.filter, self.search, self.owner, self.parent]


@dataclass(frozen=True)
class Listing:
    """What can be listed: a table with the columns of `resource_table`, or some of them.

    Attributes:
        table: the table.
        columns: what to select, for example `body`.
        stored: columns, among them the large ones, whose sizes say how many rows are read at once.
        details: fields of the messages that are left out of one that is too large for any page.
        fields: what users may filter and sort by.
        default_order: the order if the request names none.
        visible: what holds for the rows that a caller may see; `{}` stands for the readers of `access.readable`. Empty
            if everybody may see all.
    """

    table: str
    columns: str = "body"
    stored: Sequence[str] = ("body",)
    details: Collection[str] = ()
    fields: Fields = field(default_factory=lambda: COMMON_FIELDS)
    default_order: str = "create_time desc"
    visible: str = ""

    @cached_property
    def sortable(self) -> Mapping[str, type]:
        """Fields that users may sort by → Python types. Each is a NOT NULL column of the same name."""
        return {name: kind for name, each in self.fields.items() if (kind := each.sort_type) is not None}


async def list_page(
    reader: Reader,
    listing: Listing,
    query: ListQuery,
    entries: Entries[M],
    show: Callable[[M, Record], object],
    *,
    fill: Callable[[list[M]], Awaitable[object]] | None = None,
) -> str:
    """Make the entries of one page, and return the token of the next page (empty on the last).

    A page has `page_size` messages, or as many fewer as fit in MAX_PAGE_BYTES, but one at least: what is too large
    alone is shown without details.

    A search that finds nothing is repeated with tolerance for typing slips.

    Args:
        reader: What runs the query.
        listing: What is listed.
        query: What the request asks for.
        entries: Where the messages are made, and nothing else is: to make them elsewhere and copy them takes as long as
            to read them.
        show: Sets an empty message from a row, in the requested view.
        fill: Sets what is not in the rows, before the page is cut to its size.

    Raises:
        LatheError: INVALID_ARGUMENT for a bad page_size, page_token, order_by or filter.
    """
    size = page_size(query.page_size)
    order = parse_order(query.order_by, listing.sortable, listing.default_order)
    if "\0" in query.parent:
        raise invalid_argument("parent", "The text contains a NUL character. Remove it.")
    asked = checked(query.filter, listing.fields)
    if listing.visible:
        count_for(_project_of(asked))
    page = _Page(listing, query, asked, order, _position(listing, query, order), limit=size + 1)
    rows, more = await page.fetch(reader)
    if not rows and query.search and not query.page_token:
        page = replace(page, position=Position((), fuzzy=True))
        rows, more = await page.fetch(reader)
    # Nearly always: then nobody has to ask each message for its size.
    small = not rows or rows[-1]["read"] * _GROWTH < MAX_PAGE_BYTES
    numbers: list[int] = []
    messages: list[M] = []
    for number, row in enumerate(rows[:size]):
        message = entries.add()
        try:
            show(message, row)
        except Exception as error:  # a list has to go on: who repairs the row finds it in the log
            del entries[len(messages) :]
            _log.error(
                "a row that cannot be read is left out of a list",
                table=listing.table,
                uid=str(row["uid"]),
                error=repr(error),
            )
            continue
        numbers.append(number)
        messages.append(message)
    if not small:
        for message in messages:
            reduced(message, listing.details)
    if fill is not None:
        await fill(messages)
    count = len(messages) if small else fitting(messages)
    del entries[count:]
    # Where the page ends: before the first entry that does not fit, or after everything that was read.
    end = numbers[count] if count < len(messages) else len(rows[:size])
    if end == len(rows) and not more:
        return ""
    position = Position(tuple(rows[end - 1][f"after_{name}"] for name in order.names), page.position.fuzzy)
    return encode_token(position, query.described(order))


def _project_of(asked: Tests) -> str:
    """Return the project whose resources a filter asks for; empty if it may be several."""
    tests = asked.tests if isinstance(asked, AllTests) else (asked,)
    named = (each for each in tests if isinstance(each, Test) and each.name == "project" and each.how == "=")
    return next((str(each.value) for each in named), "")


def fitting(messages: Sequence[Message]) -> int:
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
    types = [UUID if name == "uid" else listing.sortable[name] for name in order.names]
    return decode_token(query.page_token, query.described(order), types)


@dataclass(frozen=True)
class _Page:
    """One page of a list, and one row more, which tells whether there is a next page."""

    listing: Listing
    query: ListQuery
    asked: Tests
    order: Order
    position: Position
    limit: int

    async def fetch(self, reader: Reader) -> tuple[list[Record], bool]:
        """Return the rows, and whether there are more that would be too much at once."""
        search, fuzzy = self.query.search, self.position.fuzzy
        # A frequent word fills the page from the next rows in order, a rare one from the index on grams, and each
        # way is slow for the other.
        if search.strip() and not await finds_few(reader, self.listing.table, search, fuzzy=fuzzy):
            rows, more = await self._run(reader, walk=SEARCH_WALK)
            if more or len(rows) == self.limit:
                return rows, more
        return await self._run(reader)

    async def _run(self, reader: Reader, walk: int = 0) -> tuple[list[Record], bool]:
        """Fetch from the whole table, or from the next rows in order only."""
        conditions = Conditions()
        _add_conditions(conditions, self.query, self.asked)
        if self.listing.visible and (readers := readable()) is not None:
            conditions.add(self.listing.visible, readers)
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
        measured = (
            f"SELECT *, sum({bytes_}) OVER upto AS read, row_number() OVER upto AS place, "  # noqa: S608
            f"coalesce(lead({bytes_}) OVER upto, 0) AS next_bytes FROM ({found}) f "
            f"WINDOW upto AS (ORDER BY {order} ROWS UNBOUNDED PRECEDING)"
        )
        # Where the next page begins is read of the rows at which this one may end: to decode a time takes longer than
        # a small message.
        too_much = f"(read + next_bytes) * {_GROWTH} >= {min(MAX_PAGE_BYTES, MAX_STORED_BYTES)}"
        ends = f"place >= {self.limit - 1} OR {too_much}"
        places = (f"CASE WHEN {ends} THEN {name} END AS after_{name}" for name in self.order.names)
        columns = ", ".join([self.listing.columns, "uid", *places, "read"])
        text = f"SELECT {columns} FROM ({measured}) s WHERE read - ({bytes_}) < {MAX_STORED_BYTES} ORDER BY {order}"  # noqa: S608
        rows: list[Record] = await reader.fetch(text, *conditions.args)
        return rows, bool(rows) and rows[-1]["read"] >= MAX_STORED_BYTES


def _add_conditions(conditions: Conditions, query: ListQuery, asked: Tests) -> None:
    if query.owner:
        conditions.add("owner = {}", query.owner)
    if query.parent:
        add_parent(conditions, query.parent)
    if query.filter.strip():
        conditions.add(condition_of(asked, conditions))
