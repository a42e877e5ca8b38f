"""Shared by commands that create a task: options, and waiting for the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.output import OutputFormat, note, show_message
from services.cli.views import TASKS, enum_name

if TYPE_CHECKING:
    from lathe_client.connection import Connection

SkipCache = Annotated[bool, typer.Option("--skip-cache", help="Repeat the work even if its result is in the cache.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the task ends.")]
Priority = Annotated[
    int, typer.Option(min=0, max=9, help="Tasks of a higher priority start first; above 5 for administrators.")
]
Timeout = Annotated[int, typer.Option(min=0, help="Time limit of an attempt in seconds; one hour if 0.")]
RequireGain = Annotated[
    bool, typer.Option("--require-gain", help="Exit with 11 if the result is not faster than the source beyond noise.")
]
Report = Annotated[Path | None, typer.Option(help="Write the HTML report to this file if the task succeeds.")]


def finish(
    connection: Connection,
    task: Any,
    output: OutputFormat,
    *,
    wait_for_it: bool,
    require_gain: bool = False,
    on_success: Callable[[Any], None] | None = None,
) -> None:
    """Wait for a new task if requested, print its result, and exit with its exit code.

    Args:
        connection: To the services.
        task: The new task.
        output: Format of the output.
        wait_for_it: Whether to wait.
        require_gain: Whether a success without a gain has its own exit code.
        on_success: Called with the task after its result is printed, if it SUCCEEDED.
    """
    from services.cli.verdicts import has_no_gain
    from services.cli.watching import exit_code_of, tell, wait

    note(f"{task.name}: {task.display_name}")
    if wait_for_it:
        task = wait(connection, task.name)
    if output is OutputFormat.JSON or not wait_for_it:
        show_message(task, TASKS, output)
    if wait_for_it:
        code = tell(task) if output is OutputFormat.TABLE else exit_code_of(task)
        if enum_name(task.status, "state") == "SUCCEEDED" and on_success is not None:
            on_success(task)
        if require_gain and code is ExitCode.OK and has_no_gain(task.result):
            code = ExitCode.NO_GAIN
        raise typer.Exit(code)


def refuse_early_gain(*, require_gain: bool, wait_for_it: bool) -> None:
    """Raise CliError if a gain is required without waiting for the task."""
    if require_gain and not wait_for_it:
        raise CliError("--require-gain needs the task to end, so it cannot be combined with --no-wait.", ExitCode.USAGE)


def refuse_early_report(report: Path | None, *, wait_for_it: bool) -> None:
    """Raise CliError if a report is requested without waiting for the task."""
    if report is not None and not wait_for_it:
        raise CliError(
            "--report needs the task to end, so it cannot be combined with --no-wait. Run the same command "
            "again later without --no-wait; the result is then in the cache.",
            ExitCode.USAGE,
        )


def save_report(connection: Connection, digest: Any, path: Path) -> None:
    """Write a stored HTML report to a file."""
    from lathe.type.v1.digest_pb2 import File

    from services.cli.transfers import download_files

    download_files(connection, [File(path=path.name, digest=digest)], path.parent)
    note(f"report: {path}")
