"""What a `ResourceStore` must know about one kind of resource, and how its messages become rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Generic, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from services.database.pool import Record
from services.platform.access import Role, has_role
from services.platform.changes import etag_of
from services.platform.errors import invalid_argument
from services.platform.messages import MAX_RESOURCE_BYTES
from services.resources.filters.fields import Fields
from services.resources.scope import Scope, Stated
from services.resources.search import search_text

__all__ = ["ResourceKind", "Row"]

M = TypeVar("M", bound=Message)
Row = dict[str, Any]
"""Values of a row by column."""


@dataclass(frozen=True)
class ResourceKind(Generic[M]):
    """One kind of resource, stored in a table made by `resource_table`.

    The message has the fields `name`, `uid`, `display_name`, `labels`, `owner`, `create_time`, `update_time`, `etag`.

    Attributes:
        message_type: the protobuf message of the resource.
        table: its table.
        collection: the word before the id in a name: `models` in `models/resnet50`.
        noun: what error messages call one: `model`.
        columns: extra columns computed from the message at every change.
        unique: columns whose value only one resource may have.
        spoken: the field that an error names for a unique column, if the column has another name than the field.
        detail_fields: message fields that lists leave out, because they may be large.
        id_source: the text that an id is made from if the caller gives none; the display name by default.
        searched: texts by which search finds a resource; its id and display name by default.
        fields: what lists can be filtered and sorted by, beside COMMON_FIELDS; each is a NOT NULL column.
        default_order: the order of lists if the request names none.
        live: columns, and expressions over the row as `s`, of what changes without the resource; `complete` sets it.
        complete: sets in a message that was read what `live` gave, if there is any.
        retires_names: says whether others may refer to one by its name, such as lineages, specifications and results:
            then the name of a deleted one is never given to another, which they would take for it. None: they never do.
        scope: where its resources belong; None: everybody may see and change them.
        withhold: takes out of one what only the members of its project are told; others read it if it is shared.
        shared_in: tables of what belongs to one, whose readers change with it.
        watched_as: field of lathe.watch.v1.Change that tells of one, and its kind in the stream of changes: `dataset`;
            empty if nobody watches them. Its schema has the table `changes`.
    """

    message_type: type[M]
    table: str
    collection: str
    noun: str
    columns: Mapping[str, Callable[[M], object]] = field(default_factory=dict)
    unique: Sequence[str] = ()
    spoken: Mapping[str, str] = field(default_factory=dict)
    detail_fields: Sequence[str] = ()
    id_source: Callable[[M], str] = lambda message: str(getattr(message, "display_name"))  # noqa: B009 - not in Message
    searched: Callable[[M], Iterable[str]] | None = None
    fields: Fields = field(default_factory=dict)
    default_order: str = "create_time desc"
    live: Sequence[str] = ()
    complete: Callable[[M, Record], None] = lambda _message, _row: None
    retires_names: Callable[[M], bool] | None = None
    scope: Scope | None = None
    withhold: Callable[[M], None] | None = None
    shared_in: Sequence[str] = ()
    watched_as: str = ""

    def prefix(self, parent: str) -> str:
        """Return what comes before the id in the names of a parent's resources."""
        return f"{parent}/{self.collection}/" if parent else f"{self.collection}/"

    def row(self, message: M, revision: int) -> Row:
        """Return the row that stores a message; its etag is set on the way.

        Raises:
            LatheError: INVALID_ARGUMENT if a text has a NUL character, which PostgreSQL cannot store, or if the
                message is larger than a resource may be.
        """
        resource: Any = message
        uid = UUID(resource.uid)
        resource.etag = etag_of(uid, revision)
        name: str = resource.name
        searched = self.searched(message) if self.searched else (name.rpartition("/")[2], resource.display_name)
        if isinstance(self.scope, Stated):
            self.scope.complete(message)
        body, detail = self._split(message)
        if (size := len(body) + len(detail)) > MAX_RESOURCE_BYTES:
            most = f"at most {MAX_RESOURCE_BYTES} are allowed. Shorten its lists and texts."
            raise invalid_argument("", f"The {self.noun} would have {size} bytes; {most}")
        row = {
            "uid": uid,
            "name": name,
            "parent": name.rpartition(f"{self.collection}/")[0].removesuffix("/"),
            "display_name": resource.display_name,
            "owner": resource.owner,
            "labels": dict(resource.labels),
            "create_time": _datetime(resource.create_time),
            "update_time": _datetime(resource.update_time),
            "revision": revision,
            "search_text": search_text(searched),
            "body": body,
            "detail": detail,
        } | {column: value(message) for column, value in self.columns.items()}
        if isinstance(self.scope, Stated):
            belonging = self.scope.belonging(message)
            row |= {"project": belonging.project, "readers": belonging.readers}
        _refuse_nul(row)
        return row

    def read(self, row: Record) -> M:
        """Return the message of a row with a column `body` and those of `live`."""
        message = self.message_type()
        self.fill(message, row)
        return message

    def fill(self, message: M, row: Record) -> None:
        """Set an empty message from a row, as `read`."""
        message.MergeFromString(row["body"])
        for step in self._steps:
            step(message, row)

    @cached_property
    def _steps(self) -> Sequence[Callable[[M, Record], None]]:
        """What sets a message from a row after its body was read: a page has many rows, most kinds have few steps."""
        scope, steps = self.scope, []
        if isinstance(scope, Stated):
            steps.append(lambda message, _row: scope.complete(message))
        if self.live:
            steps.append(self.complete)
        if self.withhold is not None:
            steps.append(self.tell)
        return steps

    def tell(self, message: M, row: Record) -> None:
        """Leave out what is not for the caller; the row has the column `project` if the kind withholds something."""
        if self.withhold is not None and not has_role(row["project"], Role.VIEWER):
            self.withhold(message)

    def fill_brief(self, message: M, row: Record) -> None:
        """Set an empty message from a row, without details."""
        self.fill(message, row)
        for name in self.detail_fields:  # the body of a row that was stored before a field was a detail holds it
            message.ClearField(name)

    def parse(self, body: bytes) -> M:
        """Return the message of a stored body, or of body and detail one after the other."""
        message = self.message_type()
        message.MergeFromString(body)
        if isinstance(self.scope, Stated):
            self.scope.complete(message)
        return message

    def without_details(self, message: M) -> M:
        """Return a copy without the fields that lists leave out."""
        body = self.message_type()
        body.CopyFrom(message)
        for large in self.detail_fields:
            body.ClearField(large)
        return body

    def _split(self, message: M) -> tuple[bytes, bytes]:
        if not self.detail_fields:
            return message.SerializeToString(), b""
        # Two serialized messages one after the other parse as their merge, so a large field can have its own column.
        body, detail = self.without_details(message), self.message_type()
        detail.CopyFrom(message)
        for descriptor, _ in message.ListFields():
            if descriptor.name not in self.detail_fields:
                detail.ClearField(descriptor.name)
        return body.SerializeToString(), detail.SerializeToString()


def _datetime(timestamp: Any) -> datetime:
    value: datetime = timestamp.ToDatetime(tzinfo=UTC)
    return value


def _refuse_nul(row: Row) -> None:
    for column, value in row.items():
        texts = [*value, *value.values()] if isinstance(value, dict) else [value]
        if any(isinstance(text, str) and "\0" in text for text in texts):
            raise invalid_argument(column, "The text contains a NUL character. Remove it.")
