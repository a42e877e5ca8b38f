"""`lathe gc`: removes stored bytes that nobody refers to."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.output import TABLE, Column, Output, OutputFormat, note, print_rows, show_message
from services.cli.progress import finished
from services.cli.views import size

if TYPE_CHECKING:
    from lathe.registry.v1.storage_service_pb2 import GarbageCollection
    from lathe_client.connection import Connection

_COLUMNS: list[Column[tuple[str, Any]]] = [
    Column("stored files", lambda row: row[0], whole=True),
    Column("files", lambda row: f"{row[1].files:,}", numeric=True),
    Column("bytes", lambda row: size(row[1].bytes), numeric=True),
]


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count; change nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: Output = TABLE,
) -> None:
    """Remove stored files that nothing refers to; by default, the registry does so each day.

    What no version, dataset, release, task or upload refers to is marked first. A later run removes it, once a grace (a
    day, unless LATHE_GC_GRACE_HOURS says otherwise) has passed in which nobody stored it again or asked for it.
    """
    with connect() as connection:
        if dry_run:
            _show(_collect(connection, dry_run=True), output)
            return
        if not yes:
            if not sys.stdin.isatty():
                raise CliError("This removes files for good: say --yes, or look first with --dry-run.", ExitCode.USAGE)
            would = _collect(connection, dry_run=True)
            _show(would, TABLE)
            if not typer.confirm(f"Remove {would.removed.files:,} files?", err=True):
                note("Nothing was removed.")
                return
        _show(_collect(connection, dry_run=False), output)


def _collect(connection: Connection, *, dry_run: bool) -> GarbageCollection:
    from lathe.registry.v1 import storage_service_pb2 as pb

    asked = pb.CreateGarbageCollectionRequest(garbage_collection=pb.GarbageCollection(dry_run=dry_run))
    begun = connection.storage.CreateGarbageCollection(asked)
    watched = pb.WatchGarbageCollectionRequest(name=begun.name)
    done: GarbageCollection = finished(connection.storage.WatchGarbageCollection, watched, "looking")
    return done


def _show(collection: GarbageCollection, output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        show_message(collection, [], output)
        return
    rows = [
        ("referred to", collection.referred),
        ("referred to by nobody, kept for a grace", collection.waiting),
        ("would be removed" if collection.dry_run else "removed", collection.removed),
    ]
    print_rows(rows, _COLUMNS)
