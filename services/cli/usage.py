"""`lathe usage`: how much of the object store each project uses."""

from __future__ import annotations

from typing import Any

from services.cli.client import connect
from services.cli.listing import Limit, read
from services.cli.output import TABLE, Column, Output, note, plain, show_messages
from services.cli.views import size, when

_COLUMNS: list[Column[Any]] = [
    Column("project", lambda usage: plain(usage.project.removeprefix("projects/")), whole=True),
    Column("files", lambda usage: f"{usage.stored.files:,}", numeric=True),
    Column("bytes", lambda usage: size(usage.stored.bytes), numeric=True),
    Column("measured", lambda usage: when(usage.measure_time), whole=True),
]


def usage(limit: Limit = 50, output: Output = TABLE) -> None:
    """Show how much of the object store each of your projects uses, as `lathe gc` or the daily collection measured it.

    Files that several projects use count for each.
    """
    from lathe.registry.v1.storage_service_pb2 import ListProjectUsagesRequest

    with connect() as connection:
        method = connection.storage.ListProjectUsages
        found, more = read(method, ListProjectUsagesRequest(), "project_usages", limit)
    if more:
        note("There are more: show them with a higher --limit.")
    show_messages(found, _COLUMNS, output)
