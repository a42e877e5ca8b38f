"""The part of the audit log that a service keeps, read by the registry; and how parts become one log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import grpc
from google.protobuf import descriptor_pool, json_format
from google.protobuf.message_factory import GetMessageClass
from lathe.internal.v1.audit_service_pb2 import AuditLogPage, AuditRecord, ReadAuditLogRequest
from lathe.internal.v1.audit_service_pb2_grpc import AuditLogServiceServicer
from lathe.registry.v1.audit_service_pb2 import AuditEntry

from services.audit.entries import strip
from services.database.pool import Database, Record
from services.resources.conditions import Conditions
from services.resources.filters.fields import TEXT, TIME, Fields, FilterField, Kind, checked
from services.resources.filters.sql import condition_of
from services.resources.listing import fitting

__all__ = ["AuditLogServicer", "joined"]

FIELDS: Fields = {
    "user": FilterField(Kind.TEXT, column="caller"),
    "method": TEXT,
    "resource": TEXT,
    "project": TEXT,
    "code": TEXT,
    "create_time": TIME,
}


class AuditLogServicer(AuditLogServiceServicer):
    """Reads the audit tables of one process: that of the service, and those of its parts."""

    def __init__(self, databases: Sequence[Database]) -> None:
        self._databases = databases

    async def ReadAuditLog(
        self, request: ReadAuditLogRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AuditLogPage:
        pages = [await _page(database, request) for database in self._databases]
        return joined(pages, request.limit)


def joined(pages: Sequence[AuditLogPage], limit: int) -> AuditLogPage:
    """Return the newest entries of several parts of the log, as far as all of them have been read.

    Args:
        pages: Of each part the newest ones, with the newest first.
        limit: Most entries.
    """
    # What a part did not tell may be newer than the oldest entries of another one.
    known = max((page.entries[-1].name for page in pages if page.more), default="")
    entries = sorted((entry for page in pages for entry in page.entries), key=lambda each: each.name, reverse=True)
    kept = [entry for entry in entries if entry.name >= known][:limit]
    kept = kept[: fitting(kept)]
    more = len(kept) < len(entries) or any(page.more for page in pages)
    return AuditLogPage(entries=kept, more=more)


async def _page(database: Database, request: ReadAuditLogRequest) -> AuditLogPage:
    conditions = Conditions()
    if request.before:
        conditions.add("uid < {}", UUID(request.before))
    if request.projects:
        conditions.add("project = ANY ({})", list(request.projects))
    if request.filter.strip():
        conditions.add(condition_of(checked(request.filter, FIELDS), conditions))
    query = f"SELECT * FROM audit{conditions.where} ORDER BY uid DESC LIMIT {request.limit + 1}"  # noqa: S608 - numbers
    rows = await database.fetch(query, *conditions.args)
    entries = [_entry(row) for row in rows[: request.limit]]
    count = fitting(entries)
    return AuditLogPage(entries=entries[:count], more=count < len(rows))


def _entry(row: Record) -> AuditEntry:
    record = AuditRecord.FromString(row["payload"])
    entry = record.entry
    entry.name = f"auditEntries/{row['uid']}"
    entry.create_time.FromDatetime(row["create_time"])
    entry.project = row["project"]
    entry.user, entry.method, entry.resource, entry.code = row["caller"], row["method"], row["resource"], row["code"]
    if record.type:
        for told, body in ((entry.before, record.before), (entry.after, record.after)):
            if body:
                told.update(_fields(record.type, body))
    return entry


def _fields(message_type: str, body: bytes) -> dict[str, Any]:
    # The service whose resource it is has loaded the type.
    message = GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(message_type)).FromString(body)
    strip(message)
    fields: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return fields
