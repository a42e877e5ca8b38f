"""`lathe usage`: how much each project uses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from services.cli.client import connect
from services.cli.listing import Limit, read
from services.cli.names import project_name
from services.cli.options import current_options
from services.cli.output import TABLE, Column, Output, note, plain, show_message, show_messages
from services.cli.views import size, when

ENDED = ("succeeded", "failed", "cancelled")
STATES = ("pending", "running", "cancelling", *ENDED)
_COLUMNS: list[Column[Any]] = [
    Column("project", lambda usage: plain(usage.project.removeprefix("projects/")), whole=True),
    Column("files", lambda usage: f"{usage.stored.files:,}", numeric=True),
    Column("bytes", lambda usage: size(usage.stored.bytes), numeric=True),
    Column("measured", lambda usage: when(usage.measure_time), whole=True),
    Column("open uploads", lambda usage: f"{usage.open_uploads:,}", numeric=True),
    Column("tasks pending", lambda usage: _sum(usage, "pending"), numeric=True),
    Column("running", lambda usage: _sum(usage, "running", "cancelling"), numeric=True),
    Column("ended", lambda usage: _sum(usage, *ENDED), numeric=True),
]


def usage(
    project: Annotated[str, typer.Argument(metavar="[PROJECT]", help="Only this one, with its tasks by kind.")] = "",
    limit: Limit = 50,
    output: Output = TABLE,
) -> None:
    """Show what each of your projects uses; of one, its tasks by kind and state, and its quotas.

    Stored files are as `lathe gc` or the daily collection measured them; what several projects use counts for each.
    """
    from lathe.registry.v1.storage_service_pb2 import GetProjectUsageRequest, ListProjectUsagesRequest

    wanted = project or current_options().project
    with connect() as connection:
        if wanted:
            found = connection.storage.GetProjectUsage(GetProjectUsageRequest(project=project_name(wanted)))
            show_message(found, [*_COLUMNS[:4], *used(found)], output)
            warn(found.unreachable)
            return
        method = connection.storage.ListProjectUsages
        usages, more = read(method, ListProjectUsagesRequest(), "project_usages", limit)
    if more:
        note("There are more: show them with a higher --limit.")
    show_messages(usages, _COLUMNS, output)
    warn(sorted({name for each in usages for name in each.unreachable}))


def warn(unreachable: Sequence[str]) -> None:
    """Tell which services did not say how many tasks there are."""
    if unreachable:
        note(f"Tasks are missing: {', '.join(unreachable)} did not answer.")


def used(usage: Any) -> list[Column[Any]]:
    """Return what a project uses beside its quotas, in rows of one column each."""
    limits = usage.quotas
    rows = {
        "waiting tasks": _by_kind(usage, "pending", limits.waiting_tasks),
        "running tasks": _by_kind(usage, "dispatched", limits.running_tasks),
        **{f"{each} tasks": _by_kind(usage, each) for each in ENDED},
        "open uploads": _beside(f"{usage.open_uploads:,}", f"{limits.open_uploads:,}"),
        "stored bytes": _beside(size(usage.quota_bytes), size(limits.stored_bytes) if limits.stored_bytes else "0"),
        "calls": f"{limits.calls_per_second:,} a second in each server" if limits.calls_per_second else "no quota",
    }
    return [Column(header, _always(text)) for header, text in rows.items()]


def _always(text: str) -> Callable[[Any], str]:
    return lambda _: text


def _by_kind(usage: Any, field: str, limit: int | None = None) -> str:
    counts = [f"{each.kind} {count:,}" for each in usage.tasks if (count := getattr(each, field))]
    told = ", ".join(counts) or "none"
    if limit is None:
        return told
    return f"{told} (of each kind at most {limit:,})" if limit else f"{told} (no quota)"


def _beside(used: str, limit: str) -> str:
    return f"{used} of {limit}" if limit != "0" else f"{used} (no quota)"


def _sum(usage: Any, *fields: str) -> str:
    return f"{sum(getattr(each, field) for each in usage.tasks for field in fields):,}"
