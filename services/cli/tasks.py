"""`lathe tasks`: show, watch, cancel and retry tasks of all kinds."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.listing import Filter, Label, Limit, Mine, OrderBy, Page, Search, filter_of
from services.cli.output import (
    TABLE,
    Column,
    Output,
    OutputFormat,
    note,
    plain,
    print_json_line,
    print_rows,
    show_message,
    show_messages,
)
from services.cli.task_services import find_task, listed
from services.cli.views import TASK_LIST, TASKS, enum_name, size, when
from services.cli.waiting import SkipCache

if TYPE_CHECKING:
    from lathe_client.connection import Connection

tasks = typer.Typer(help="Tasks: list, wait, logs, cancel, retry.", no_args_is_help=True)

TaskArguments = Annotated[list[str], typer.Argument(metavar="TASK...", help="Names, or ids.")]
TaskArgument = Annotated[str, typer.Argument(metavar="TASK", help="Such as 'conversionTasks/0198…', or its id.")]


def _stages(attempt: Any) -> str:
    """Return how long an attempt was in each stage: `executing 8.2 s, uploading outputs 0.1 s`."""
    return ", ".join(
        f"{enum_name(each, 'stage').replace('_', ' ').lower()} {each.duration.ToTimedelta().total_seconds():.1f} s"
        for each in attempt.stage_times
    )


ATTEMPTS: list[Column[Any]] = [
    Column("attempt", lambda attempt: str(attempt.number), numeric=True),
    Column("worker", lambda attempt: plain(attempt.worker), whole=True),
    Column("outcome", lambda attempt: enum_name(attempt, "outcome") or "runs", whole=True),
    Column("took", _stages),
    Column(
        "peak memory",
        lambda attempt: size(attempt.peak_memory_bytes) if attempt.peak_memory_bytes else "–",
        numeric=True,
    ),
]


@tasks.command("list")
def list_tasks(
    kind: Annotated[str, typer.Option(help="Only tasks of this kind, such as quantization.")] = "",
    search: Search = "",
    mine: Mine = False,
    label: Label = None,
    state: Annotated[list[str] | None, typer.Option(help="Only tasks in this state, such as RUNNING.")] = None,
    device: Annotated[str, typer.Option(help="Only tasks for this device.")] = "",
    uses: Annotated[str, typer.Option(help="Only tasks that use this resource, such as 'datasets/digits'.")] = "",
    filter_: Filter = "",
    order_by: OrderBy = "",
    limit: Limit = 20,
    page: Page = "",
    output: Output = TABLE,
) -> None:
    """List tasks, the newest first; with `--order-by`, kind by kind."""
    filters = {
        "search": search,
        "mine_only": mine,
        "filter": filter_of(
            filter_, label, state=[_known_state(word) for word in state or []], device=device, uses=uses
        ),
        "order_by": order_by,
        "view": "VIEW_FULL",  # the table shows results
    }
    show_messages(listed(kind, "List", "tasks", filters, limit, page), TASK_LIST, output)


@tasks.command("get")
def get(task: TaskArgument, output: Output = TABLE) -> None:
    """Show a task with its result or failure."""
    from services.cli.watching import TERMINAL, tell

    with connect() as connection:
        kind, name = find_task(connection, task)
        found = kind.call(connection, "Get", name=name)
    show_message(found, TASKS, output)
    if output is OutputFormat.TABLE and found.attempts:
        print_rows(found.attempts, ATTEMPTS)
    if output is OutputFormat.TABLE and enum_name(found.status, "state") in TERMINAL:
        tell(found)


@tasks.command("watch")
def watch(names: TaskArguments, output: Output = TABLE) -> None:
    """Wait until tasks end; with `--output json`, one line per change. Exits with the code of the first to go wrong."""
    from services.cli.output import message_json
    from services.cli.watching import exit_code_of, follow, tell, wait

    codes: list[ExitCode] = []
    with connect() as connection:
        # One after the other: all of them go on meanwhile.
        for _, name in [find_task(connection, each) for each in names]:
            if output is OutputFormat.TABLE:
                codes.append(tell(wait(connection, name)))
                continue
            for change in follow(connection, name):
                found = change
                print_json_line(message_json(change))
            codes.append(exit_code_of(found))
    raise typer.Exit(next((code for code in codes if code is not ExitCode.OK), ExitCode.OK))


@tasks.command("logs")
def logs(
    task: TaskArgument,
    attempt: Annotated[int, typer.Option(min=0, help="The attempt; the newest if 0.")] = 0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait until the task ends.")] = False,
    tail: Annotated[int, typer.Option(min=0, help="Start with this many lines from the end; the whole log if 0.")] = 0,
    output: Output = TABLE,
) -> None:
    """Print the log of a task."""
    from lathe_client.tasks import read_log

    from services.cli.output import message_json

    with connect() as connection:
        kind, name = find_task(connection, task)
        for line in read_log(connection, kind, name, attempt=attempt, follow=follow, tail_lines=tail):
            if output is OutputFormat.JSON:
                print_json_line(message_json(line))
            else:
                typer.echo(f"{when(line.time)} {line.text}")


@tasks.command("cancel")
def cancel(names: TaskArguments, output: Output = TABLE) -> None:
    """Cancel tasks; a running engine stops within seconds."""
    with connect() as connection:
        if len(names) > 1:
            _in_batches(connection, names, "BatchCancel", "cancelled")
            return
        kind, name = find_task(connection, names[0])
        show_message(kind.call(connection, "Cancel", name=name), TASKS, output)


@tasks.command("retry")
def retry(task: TaskArgument, skip_cache: SkipCache = False, output: Output = TABLE) -> None:
    """Create a task with the same specification as one that failed or was cancelled."""
    with connect() as connection:
        kind, name = find_task(connection, task)
        show_message(kind.call(connection, "Retry", name=name, skip_cache=skip_cache), TASKS, output)


@tasks.command("delete")
def delete(names: TaskArguments) -> None:
    """Delete tasks that have ended; their results stay."""
    with connect() as connection:
        _in_batches(connection, names, "BatchDelete", "deleted")


def _in_batches(connection: Connection, names: list[str], verb: str, done: str) -> None:
    """Call a verb for the tasks of each kind; `done` is the answer's field with those that it was done for."""
    from lathe.type.v1.error_reason_pb2 import ErrorReason

    from services.platform.words import word

    failed = False
    found = sorted((find_task(connection, name) for name in names), key=lambda each: each[0].name)
    for kind, group in groupby(found, key=lambda each: each[0]):
        answer = kind.call(connection, verb, names=[name for _, name in group])
        for name in getattr(answer, done):
            note(f"{done} {name}")
        for error in answer.errors:
            note(f"{error.name}: {error.message} [{word(ErrorReason, error.reason)}]", style="red")
        failed = failed or bool(answer.errors)
    raise typer.Exit(ExitCode.CONFLICT if failed else ExitCode.OK)


def _known_state(word: str) -> str:
    from lathe.type.v1.task_pb2 import TaskState

    from services.platform.words import words

    names = words(TaskState)
    if word.upper() not in names:
        raise typer.BadParameter(f"{word!r} is not a state; states are {', '.join(names)}")
    return word.upper()
