"""What every command that creates a task shares: its options, and how it ends."""

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
    from services.cli.client import Connection

SkipCache = Annotated[bool, typer.Option("--skip-cache", help="Do the work even if it was done before.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the task ends.")]
Timeout = Annotated[int, typer.Option(min=0, help="Seconds that one attempt may take; an hour if 0.")]
RequireGain = Annotated[
    bool, typer.Option("--require-gain", help="Exit with 11 if the result is no faster than the source beyond noise.")
]
Report = Annotated[Path | None, typer.Option(help="Write the HTML report here, if the task succeeds.")]


def finish(
    connection: Connection,
    task: Any,
    output: OutputFormat,
    *,
    wait_for_it: bool,
    require_gain: bool = False,
    on_success: Callable[[Any], None] | None = None,
) -> None:
    """Wait for a new task if asked, print its result, and exit with its exit code.

    Args:
        connection: To the services.
        task: The new task.
        output: How it is printed.
        wait_for_it: Whether to wait.
        require_gain: Whether a success without a gain has an exit code of its own.
        on_success: Takes the task if it was waited for and SUCCEEDED, once it is printed.
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
    """Raise CliError if a gain is required of a task that is not waited for."""
    if require_gain and not wait_for_it:
        raise CliError("--require-gain needs the task to end, so it cannot be combined with --no-wait.", ExitCode.USAGE)


def refuse_early_report(report: Path | None, *, wait_for_it: bool) -> None:
    """Raise CliError if a report is asked for of a task that is not waited for."""
    if report is not None and not wait_for_it:
        raise CliError(
            "--report needs the task to end, so it cannot be combined with --no-wait. Run the same command "
            "later without it: it finds the work done.",
            ExitCode.USAGE,
        )


def save_report(connection: Connection, digest: Any, path: Path) -> None:
    """Write a stored HTML report to a file."""
    from lathe.type.v1.digest_pb2 import File

    from services.cli.transfers import download_files

    download_files(connection, [File(path=path.name, digest=digest)], path.parent)
    note(f"report: {path}")
