"""Progress of work that goes on in a service, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.views import enum_name

if TYPE_CHECKING:
    from rich.progress import Progress


@contextmanager
def reading() -> Iterator[Callable[[float], None]]:
    """Show a progress bar once there is progress to tell; gives the function that takes it, 0 to 1."""
    with _bar() as progress:
        bar = None

        def told(part: float) -> None:
            nonlocal bar
            bar = progress.add_task("reading", total=1.0) if bar is None else bar
            progress.update(bar, completed=part)

        yield told


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

    with _bar() as progress:
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


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    return Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True))
