"""Waiting for a task: a progress bar, then the result."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from services.cli.exit_codes import ExitCode
from services.cli.output import error, note, plain
from services.cli.results import show_result
from services.cli.task_services import kind_of
from services.cli.verdicts import unaccepted, unverified
from services.cli.views import doing, enum_name

if TYPE_CHECKING:
    from lathe_client.connection import Connection

TERMINAL = ("SUCCEEDED", "FAILED", "CANCELLED")
EXIT_CODES = {
    "SUCCEEDED": ExitCode.OK,
    "FAILED": ExitCode.TASK_FAILED,
    "CANCELLED": ExitCode.TASK_CANCELLED,
}


def follow(connection: Connection, name: str) -> Iterator[Any]:
    """Yield the task after every change until it is terminal; a broken stream is resumed."""
    from lathe_client.tasks import watch

    return watch(connection, kind_of(name), name)


@contextmanager
def telling_what_goes_on(name: str, watch: str) -> Iterator[None]:
    """If Ctrl-C ends the waiting, tell that the work continues and how to resume waiting.

    Args:
        name: The task or group.
        watch: Command that resumes waiting.
    """
    try:
        yield
    except KeyboardInterrupt:
        note(f"{name} continues. To wait for it again: {watch} {name}")
        raise


def wait(connection: Connection, name: str) -> Any:
    """Show a task's progress on stderr until it is terminal, and return it."""
    with telling_what_goes_on(name, "lathe tasks watch"):
        return _wait(connection, name)


def _wait(connection: Connection, name: str) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.fields[state]:<10}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
    )
    with Progress(
        *columns, TimeElapsedColumn(), TextColumn("{task.description}"), console=Console(stderr=True)
    ) as progress:
        bar = progress.add_task("", total=1.0, state="PENDING")
        for task in follow(connection, name):
            state = enum_name(task.status, "state")
            words = "" if state in TERMINAL else plain(doing(task))  # the outcome is printed in full below
            progress.update(bar, completed=task.status.progress, state=state, description=words)
    return task


def exit_code_of(task: Any) -> ExitCode:
    """Return the exit code for the outcome of a terminal task."""
    code = EXIT_CODES[enum_name(task.status, "state")]
    if code is not ExitCode.OK:
        return code
    if unverified(task.result):
        return ExitCode.UNVERIFIED
    return ExitCode.PARITY_WARN if unaccepted(task.result) else code


def tell(task: Any) -> ExitCode:
    """Print the result of a terminal task: the tables of its kind, or the failure; return its exit code."""
    state = enum_name(task.status, "state")
    failure = task.status.failure
    if state == "FAILED":
        details = [
            f"{label}: {value}"
            for label, value in (
                ("stage", enum_name(failure, "stage")),
                ("node", failure.node),
                ("operator", failure.operator),
                ("evidence", failure.evidence),
                ("what to do", failure.suggested_fix),
                ("log", f"lathe tasks logs {task.name}"),
            )
            if value
        ]
        error(f"{enum_name(failure, 'reason')}: {failure.message}", details)
    elif state == "SUCCEEDED":
        show_result(task)
    else:
        note(f"{task.name} is {state}")
    return exit_code_of(task)
