"""`lathe tasks`: look at tasks, wait for them, stop them, try them again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.listing import Label, Limit, Mine, OrderBy, Search, pages
from services.cli.names import parse_labels
from services.cli.output import TABLE, Output, OutputFormat, note, print_json_line, show_message, show_messages
from services.cli.views import TASKS, enum_name, when

if TYPE_CHECKING:
    from lathe.type.v1.task_pb2 import TaskState

tasks = typer.Typer(help="Tasks: list, wait, logs, cancel, retry.", no_args_is_help=True)

COLLECTION = "conversionTasks"
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="Such as 'conversionTasks/0198…', or its id.")]
SkipCache = Annotated[bool, typer.Option("--skip-cache", help="Do the work even if it was done before.")]


@tasks.command("list")
def list_tasks(
    search: Search = "",
    mine: Mine = False,
    label: Label = None,
    state: Annotated[list[str] | None, typer.Option(help="Only those in this state, such as RUNNING.")] = None,
    device: Annotated[str, typer.Option(help="Only those for this device.")] = "",
    order_by: OrderBy = "",
    limit: Limit = 20,
    output: Output = TABLE,
) -> None:
    """List tasks, the newest first."""
    from lathe.converter.v1.conversion_service_pb2 import ListConversionTasksRequest

    request = ListConversionTasksRequest(
        search=search,
        mine_only=mine,
        labels=parse_labels(label or []),
        states=[_known_state(word) for word in state or []],
        device=device,
        order_by=order_by,
    )
    with connect() as connection:
        show_messages(pages(connection.conversions.ListConversionTasks, request, "tasks", limit), TASKS, output)


@tasks.command("get")
def get(task: TaskArgument, output: Output = TABLE) -> None:
    """Show a task; its result or its failure too."""
    from lathe.converter.v1.conversion_service_pb2 import GetConversionTaskRequest

    from services.cli.watching import TERMINAL, tell

    with connect() as connection:
        found = connection.conversions.GetConversionTask(GetConversionTaskRequest(name=_name(task)))
    show_message(found, TASKS, output)
    if output is OutputFormat.TABLE and enum_name(found.status, "state") in TERMINAL:
        tell(found)


@tasks.command("watch")
def watch(task: TaskArgument, output: Output = TABLE) -> None:
    """Stay until a task ends; with `--output json`, one line per change. The exit code tells how it ended."""
    from services.cli.output import message_json
    from services.cli.watching import EXIT_CODES, follow, tell, wait

    with connect() as connection:
        if output is OutputFormat.TABLE:
            raise typer.Exit(tell(wait(connection, _name(task))))
        state = ""
        for change in follow(connection, _name(task)):
            state = enum_name(change.status, "state")
            print_json_line(message_json(change))
    raise typer.Exit(EXIT_CODES[state])


@tasks.command("logs")
def logs(
    task: TaskArgument,
    attempt: Annotated[int, typer.Option(min=0, help="The attempt; the newest where 0.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay until the task ends.")] = False,
    output: Output = TABLE,
) -> None:
    """Print the log of a task."""
    from lathe.converter.v1.conversion_service_pb2 import StreamConversionTaskLogsRequest

    from services.cli.output import message_json

    request = StreamConversionTaskLogsRequest(name=_name(task), attempt=attempt, follow=follow)
    with connect() as connection:
        for line in connection.conversions.StreamConversionTaskLogs(request):
            if output is OutputFormat.JSON:
                print_json_line(message_json(line))
            else:
                typer.echo(f"{when(line.time)} {line.text}")


@tasks.command("cancel")
def cancel(task: TaskArgument, output: Output = TABLE) -> None:
    """Ask for a task's end; a running engine is stopped within seconds."""
    from lathe.converter.v1.conversion_service_pb2 import CancelConversionTaskRequest

    with connect() as connection:
        found = connection.conversions.CancelConversionTask(CancelConversionTaskRequest(name=_name(task)))
    show_message(found, TASKS, output)


@tasks.command("retry")
def retry(task: TaskArgument, skip_cache: SkipCache = False, output: Output = TABLE) -> None:
    """Create a task with the same specification as one that failed or was cancelled."""
    from lathe.converter.v1.conversion_service_pb2 import RetryConversionTaskRequest

    with connect() as connection:
        request = RetryConversionTaskRequest(name=_name(task), skip_cache=skip_cache)
        show_message(connection.conversions.RetryConversionTask(request), TASKS, output)


@tasks.command("delete")
def delete(names: Annotated[list[str], typer.Argument(metavar="TASK...")]) -> None:
    """Delete tasks that ended; their results stay."""
    from lathe.converter.v1.conversion_service_pb2 import BatchDeleteConversionTasksRequest

    with connect() as connection:
        answer = connection.conversions.BatchDeleteConversionTasks(
            BatchDeleteConversionTasksRequest(names=[_name(name) for name in names])
        )
    for name in answer.deleted:
        note(f"deleted {name}")
    for error in answer.errors:
        note(f"{error.name}: {error.message} [{error.reason}]", style="red")
    raise typer.Exit(ExitCode.CONFLICT if answer.errors else ExitCode.OK)


def _name(task: str) -> str:
    return task if "/" in task else f"{COLLECTION}/{task}"


def _known_state(word: str) -> TaskState.ValueType:
    from lathe.type.v1.task_pb2 import TaskState

    names = TaskState.keys()[1:]
    if word.upper() not in names:
        raise typer.BadParameter(f"{word!r} is no state; states are {', '.join(names)}")
    return TaskState.Value(word.upper())
