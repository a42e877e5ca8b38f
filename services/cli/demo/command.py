"""`lathe demo`: the whole workflow on real data, from training to release."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.client import connect
from services.cli.demo.story import Line
from services.cli.options import DataDir, chosen_data_dir
from services.cli.output import Column, note, print_rows

if TYPE_CHECKING:
    from lathe_client.connection import Connection

PARTS = ("digits", "detector", "sentences")
Part = Annotated[list[str] | None, typer.Option("--part", help="digits, detector or sentences; all if not given.")]


def demo(
    part: Part = None,
    prepare: Annotated[
        bool,
        typer.Option("--prepare", help="Only write weights, network, template and datasets of the digits."),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Train, convert, verify, quantize, evaluate, compare, release, optimize and profile real models."""
    wanted = part or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        raise typer.BadParameter(
            f"{', '.join(sorted(unknown))}: unknown; parts are {', '.join(PARTS)}", param_hint="--part"
        )
    folder = chosen_data_dir(data_dir)
    if prepare:
        from services.cli.demo import digits

        digits.prepare(_emptied(folder / "demo"))
        note(f"Written to {folder / 'demo'}.")
        return
    started = time.monotonic()
    with running_suite(folder) as connection:
        work = _emptied(folder / "demo")
        lines = [line for name in PARTS if name in wanted for line in _run(name, connection, work)]
    print_rows(lines, COLUMNS, title="Accuracy of the forms on held-out data")
    note(f"Done in {time.monotonic() - started:.0f} s. Packages and reports are in {work}.")


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _run(part: str, connection: Connection, work: Path) -> list[Line]:
    found: list[Line] = import_module(f"services.cli.demo.{part}").run(connection, work)
    return found


@contextmanager
def running_suite(folder: Path) -> Iterator[Connection]:
    """Yield a connection to the suite of a data directory; start and stop a suite if none is running."""
    from services.local.endpoints import read_endpoints
    from services.local.health import service_health
    from services.local.stack import Stack

    with connect() as connection:
        if read_endpoints(folder) and all(
            service_health(address, timeout=1) == "healthy" for address in connection.addresses.values()
        ):
            yield connection
            return
    note(f"Starting the suite in {folder.resolve()} …")
    stack = Stack(folder, say=note)
    stack.start()
    try:
        with connect() as connection:
            yield connection
    finally:
        note("Stopping the suite …")
        stack.stop()


COLUMNS: list[Column[Line]] = [
    Column("form", lambda line: line.form),
    Column("main figure", lambda line: f"{line.figure:.2%}", numeric=True),
    Column("", lambda line: line.note),
]
