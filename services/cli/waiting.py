"""What every command that creates a task shares: its options, and how it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.output import OutputFormat, note, show_message
from services.cli.views import TASKS, enum_name

if TYPE_CHECKING:
    from services.cli.client import Connection

SkipCache = Annotated[bool, typer.Option("--skip-cache", help="Do the work even if it was done before.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until the task ends.")]


def finish(connection: Connection, task: Any, output: OutputFormat, *, wait_for_it: bool) -> None:
    """Wait for a new task where asked, print what came of it, and leave with the exit code of its end."""
    from services.cli.watching import EXIT_CODES, tell, wait

    note(f"{task.name}: {task.display_name}")
    if wait_for_it:
        task = wait(connection, task.name)
    if output is OutputFormat.JSON or not wait_for_it:
        show_message(task, TASKS, output)
    if wait_for_it:
        code = tell(task) if output is OutputFormat.TABLE else EXIT_CODES[enum_name(task.status, "state")]
        raise typer.Exit(code)
