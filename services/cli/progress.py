"""Progress of work that goes on in a service, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.views import enum_name


def finished(method: Callable[[Any], Iterable[Any]], request: Any, doing: str) -> Any:
    """Show a progress bar until an operation ends, and return it; a broken stream is opened again.

    Args:
        method: The Watch of a stub.
        request: Of the stream.
        doing: What goes on: `comparing`.

    Raises:
        CliError: It FAILED or was CANCELLED.
    """
    from lathe_client.calls import resumed
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as progress:
        bar = progress.add_task(doing, total=1.0)
        operation: Any = None
        for operation in resumed(method, request, lambda _: None):
            progress.update(bar, completed=operation.progress)
    state = enum_name(operation, "state")
    if state == "FAILED":
        failure = operation.failure
        raise CliError(" ".join(filter(None, (failure.message, failure.suggested_fix))), ExitCode.TASK_FAILED)
    if state == "CANCELLED":
        raise CliError(f"{operation.name} was cancelled.", ExitCode.TASK_CANCELLED)
    return operation
