"""Entries of the audit log as rows: what they say of a call, and what changed."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from google.protobuf.message import Message
from lathe.internal.v1.audit_service_pb2 import AuditRecord
from lathe.registry.v1 import info_service_pb2 as info
from lathe.type.v1.error_reason_pb2 import ErrorReason
from uuid_utils.compat import uuid7

from services.database.pool import Connection
from services.platform.errors import LatheError
from services.platform.identity import Caller, Credential, Proof
from services.platform.words import number, words

__all__ = ["INSERT", "NO_ROW", "Call", "become", "created_row", "current_call", "note", "refused_row", "strip"]

LARGE_BYTES = 2048
"""A field that takes more is named, and left out."""

INSERT = (
    "INSERT INTO audit (uid, create_time, project, caller, method, resource, code, payload) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
)
NO_ROW = (None,) * 8
_CREDENTIALS = {
    Credential.NOTHING: info.AUTHENTICATION_OPEN,
    Credential.TOKEN: info.AUTHENTICATION_TOKEN,
    Credential.JWT: info.AUTHENTICATION_JWT,
    Credential.CERTIFICATE: info.AUTHENTICATION_CERTIFICATE,
}
# They change with every change, or say what other columns say.
_UNTOLD = ("name", "uid", "owner", "project", "etag", "create_time", "update_time")

Row = tuple[Any, ...]


@dataclass(slots=True)
class Call:
    """A call that may change something.

    Attributes:
        method: `lathe.registry.v1.ModelService/CreateModel`.
        caller: For whom it is made.
        peer: The address that it came from.
        request_id: That of the request.
        trace_id: That of its trace.
        target: The resource that the request names.
        project: That of the resource which the call looked at last in order to change it.
        noted: Whether a change of it was noted.
        refusals: What became of the resources of a batch that were refused.
    """

    method: str
    caller: Caller
    peer: str
    request_id: str
    trace_id: str
    target: str
    project: str = ""
    noted: bool = False
    refusals: list[tuple[str, LatheError]] = field(default_factory=list)


_call: ContextVar[Call | None] = ContextVar("audited_call", default=None)


def current_call() -> Call | None:
    """Return the call that this code runs for; None in the background."""
    return _call.get()


def become(call: Call) -> None:
    """Let what follows in this task be noted as changes of `call`."""
    _call.set(call)


async def note(connection: Connection, before: Message | None, after: Message | None, project: str) -> None:
    """Write that the current call changed a resource, inside the transaction of the change; nothing in the background.

    Args:
        connection: The transaction.
        before: The resource before; None if it was created.
        after: The resource now; None if it was deleted.
        project: The project that it is in.
    """
    call = _call.get()
    if call is not None:
        await connection.execute(INSERT, *_changed_row(call, before, after, project))


def created_row(name: str, message_type: type[Message], body: bytes, project: str) -> Row:
    """Return the row for a resource that the current call creates, of its serialized message; NO_ROW without a call."""
    call = _call.get()
    if call is None:
        return NO_ROW
    if len(body) > LARGE_BYTES:
        return _changed_row(call, None, message_type.FromString(body), project)
    call.noted = True
    return _row(call, name, AuditRecord(type=message_type.DESCRIPTOR.full_name, after=body), project)


def refused_row(call: Call, name: str, error: LatheError | None, project: str = "") -> Row:
    """Return the row for a call, or a part of it, that was refused; or that changed nothing, without an error."""
    if error is not None:
        project = error.metadata.get("project", "") or project
    # PostgreSQL stores no NUL character, which a refused name may have.
    name, project = (each.replace("\0", "\N{SYMBOL FOR NULL}") for each in (name, project))
    record = AuditRecord()
    if error is not None and error.reason in words(ErrorReason):
        record.entry.reason = number(ErrorReason, error.reason)
    return _row(call, name, record, project, "OK" if error is None else error.code.name)


def strip(message: Message) -> None:
    """Clear what no entry tells."""
    for name in _UNTOLD:
        if name in message.DESCRIPTOR.fields_by_name:
            message.ClearField(name)


def _changed_row(call: Call, before: Message | None, after: Message | None, project: str) -> Row:
    known: Any = before if after is None else after
    record = AuditRecord(type=known.DESCRIPTOR.full_name)
    old, new = (None if each is None else _copy(each) for each in (before, after))
    if old is not None and new is not None:
        for each in known.DESCRIPTOR.fields:
            if _same(old, new, each.name, each.has_presence):
                old.ClearField(each.name)
                new.ClearField(each.name)
    for each in (old, new):
        record.entry.omitted_fields.extend(
            name for name in _large_fields(each) if name not in record.entry.omitted_fields
        )
    for large in record.entry.omitted_fields:
        for each in (old, new):
            if each is not None:
                each.ClearField(large)
    record.before = b"" if old is None else old.SerializeToString()
    record.after = b"" if new is None else new.SerializeToString()
    call.noted = True
    return _row(call, known.name, record, project)


def _row(call: Call, resource: str, record: AuditRecord, project: str, code: str = "OK") -> Row:
    caller, entry = call.caller, record.entry
    entry.authentication = _CREDENTIALS[caller.credential]
    entry.by_service = caller.proof in (Proof.DELEGATE, Proof.SERVICE)
    entry.request_id, entry.trace_id, entry.peer = call.request_id, call.trace_id, call.peer
    now = datetime.fromtimestamp(time.time(), UTC)
    return uuid7(), now, project, caller.user, call.method, resource, code, record.SerializeToString()


def _copy(message: Message) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    strip(copy)
    return copy


def _same(old: Any, new: Any, name: str, has_presence: bool) -> bool:
    if has_presence and old.HasField(name) != new.HasField(name):
        return False
    return bool(getattr(old, name) == getattr(new, name))


def _large_fields(message: Any) -> Iterable[str]:
    """Return the fields that are too large to keep."""
    if message is None or message.ByteSize() <= LARGE_BYTES:
        return []
    rest, large = type(message)(), []
    rest.CopyFrom(message)
    for descriptor, _ in message.ListFields():
        size = rest.ByteSize()
        rest.ClearField(descriptor.name)
        if size - rest.ByteSize() > LARGE_BYTES:
            large.append(descriptor.name)
    return large
