"""`lathe audit`: who changed what, when, and what was refused."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.cli.client import connect
from services.cli.listing import Filter, Limit, Page, filter_of, pages
from services.cli.output import TABLE, Column, Output, note, plain, show_messages
from services.cli.views import when


def _result(entry: Any) -> str:
    from lathe.type.v1.error_reason_pb2 import ErrorReason

    from services.platform.words import word

    reason = word(ErrorReason, entry.reason) if entry.reason else entry.code
    return str(entry.code) if reason == entry.code else f"{entry.code}: {reason}"


COLUMNS: list[Column[Any]] = [
    Column("when", lambda entry: when(entry.create_time), whole=True),
    Column("user", lambda entry: plain(entry.user) + (" (by a service)" if entry.by_service else "")),
    Column("method", lambda entry: entry.method.rpartition("/")[2], whole=True),
    Column("resource", lambda entry: plain(entry.resource)),
    Column("result", _result),
    Column(
        "changed",
        lambda entry: plain(", ".join(sorted({*entry.before, *entry.after, *entry.omitted_fields}))),
        detail=True,
    ),
    Column("from", lambda entry: plain(entry.peer), detail=True),
    Column("trace", lambda entry: plain(entry.trace_id), detail=True),
    Column("request id", lambda entry: plain(entry.request_id), detail=True),
]


def audit(
    user: Annotated[str, typer.Option(help="Only what this user asked for.")] = "",
    resource: Annotated[str, typer.Option(help="Only this resource, by its full name, such as 'models/digits'.")] = "",
    refused: Annotated[bool, typer.Option("--refused", help="Only what was refused.")] = False,
    filter_: Filter = "",
    limit: Limit = 50,
    page: Page = "",
    output: Output = TABLE,
) -> None:
    """Show the audit log, the newest entries first; with --output json, what each changed field was and is."""
    from lathe.registry.v1.audit_service_pb2 import ListAuditEntriesRequest

    wanted = " AND ".join(filter(None, (f"({filter_})" if filter_ and refused else filter_, "code != OK" * refused)))
    request = ListAuditEntriesRequest(filter=filter_of(wanted, None, user=user, resource=resource))
    silent: set[str] = set()
    with connect() as connection:

        def call(asked: ListAuditEntriesRequest) -> Any:
            response = connection.audit.ListAuditEntries(asked)
            silent.update(response.unreachable)
            return response

        show_messages(pages(call, request, "audit_entries", limit, page), COLUMNS, output)
    if silent:
        note(f"Entries are missing: {', '.join(sorted(silent))} did not answer.")
