"""`lathe groups`: tasks of several versions by one command."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.listing import Filter, Label, Limit, Mine, OrderBy, Page, Search, filter_of
from services.cli.output import (
    TABLE,
    Column,
    Output,
    OutputFormat,
    message_json,
    note,
    plain,
    print_json,
    print_rows,
    show_messages,
)
from services.cli.task_services import find_group, listed
from services.cli.views import colored, enum_name, labels, short, when

if TYPE_CHECKING:
    from lathe_client.connection import Connection

groups = typer.Typer(help="Groups of tasks: list, get, watch, cancel, delete.", no_args_is_help=True)

GroupArgument = Annotated[
    str,
    typer.Argument(metavar="GROUP", help="Such as 'evaluationTaskGroups/0198…', or its id."),
]
GROUPS: list[Column[Any]] = [
    Column("group", lambda group: plain(group.name.partition("/")[2]), whole=True),
    Column("kind", lambda group: group.name.partition("TaskGroups/")[0], whole=True),
    Column("name", lambda group: plain(group.display_name)),
    Column("state", lambda group: enum_name(group, "state"), whole=True),
    Column("tasks", lambda group: str(len(group.members)), numeric=True),
    Column("labels", labels, detail=True),
    Column("owner", lambda group: plain(group.owner), detail=True),
    Column("created", lambda group: when(group.create_time), whole=True),
]
MEMBERS: list[Column[Any]] = [
    Column("version", lambda member: short(member.model_version), whole=True),
    Column("task", lambda member: plain(member.task.partition("/")[2] or "–"), whole=True),
    Column("state", lambda member: colored(enum_name(member, "state")) or "–", whole=True),
    Column("progress", lambda member: f"{member.progress:.0%}", numeric=True, detail=True),
    Column("result", lambda member: _result(member) or "–"),
    Column("why", lambda member: plain(member.error)),
]


@groups.command("list")
def list_groups(
    kind: Annotated[str, typer.Option(help="Only groups of tasks of this kind, such as evaluation.")] = "",
    search: Search = "",
    mine: Mine = False,
    label: Label = None,
    filter_: Filter = "",
    order_by: OrderBy = "",
    limit: Limit = 20,
    page: Page = "",
    output: Output = TABLE,
) -> None:
    """List groups, the newest first; with `--order-by`, kind by kind."""
    asked = {"search": search, "mine_only": mine, "filter": filter_of(filter_, label), "order_by": order_by}
    show_messages(listed(kind, "ListGroups", "groups", asked, limit, page), GROUPS, output)


@groups.command("get")
def get(group: GroupArgument, output: Output = TABLE) -> None:
    """Show the state of a group's tasks."""
    with connect() as connection:
        show_group(_get(connection, group), output)


@groups.command("watch")
def watch(group: GroupArgument, output: Output = TABLE) -> None:
    """Wait until every task of a group has ended.

    The exit code is 5 if any did not succeed, else that of the verdict that weighs most: 12 UNVERIFIED, 10 WARN.
    """
    with connect() as connection:
        finish_group(connection, _get(connection, group), output, wait_for_it=True)


@groups.command("delete")
def delete(group: GroupArgument) -> None:
    """Delete a group; its tasks stay."""
    with connect() as connection:
        kind, name = find_group(connection, group)
        kind.call(connection, "DeleteGroup", name=name)
    note(f"deleted {name}")


@groups.command("cancel")
def cancel(group: GroupArgument, output: Output = TABLE) -> None:
    """Cancel every task of a group that has not ended."""
    with connect() as connection:
        kind, name = find_group(connection, group)
        show_group(kind.call(connection, "CancelGroup", name=name), output)


def create_group(
    connection: Connection, kind: str, versions: list[str], spec: Any, *, skip_cache: bool, **fields: Any
) -> Any:
    """Create a task for each version, and return their group.

    Args:
        connection: To the services.
        kind: The kind of task, such as `evaluation`.
        versions: Names of the versions.
        spec: What to do with each.
        skip_cache: Whether equal work is done again.
        fields: More fields of the group: `display_name`, `labels`, `priority`.
    """
    from uuid import uuid4

    from lathe_client.calls import repeated
    from lathe_client.tasks import KINDS

    of_kind = KINDS[kind]
    request = of_kind.request("CreateGroup", skip_cache=skip_cache, request_id=str(uuid4()))
    request.group.MergeFrom(type(request.group)(spec=spec, model_versions=versions, **fields))
    return repeated(of_kind.method(connection, "CreateGroup"), request)


def finish_group(
    connection: Connection, group: Any, output: OutputFormat, *, wait_for_it: bool, require_gain: bool = False
) -> NoReturn:
    """Wait for a group if requested, print its tasks, and exit with its exit code."""
    from services.cli.watching import telling_what_goes_on

    note(f"{group.name}: {group.display_name}")
    if wait_for_it:
        with telling_what_goes_on(group.name, "lathe groups watch"):
            group = wait_for_group(connection, group)
    show_group(group, output)
    saved_later = group.name.startswith("optimizationTaskGroups/")
    if saved_later and any(enum_name(member, "state") == "SUCCEEDED" for member in group.members):
        note("To register a result, save it: lathe save TASK")
    if not wait_for_it:
        raise typer.Exit(ExitCode.OK)
    if enum_name(group, "state") != "ALL_SUCCEEDED":
        raise typer.Exit(ExitCode.TASK_FAILED)
    raise typer.Exit(_judge(connection, group, require_gain=require_gain))


def _judge(connection: Connection, group: Any, *, require_gain: bool) -> ExitCode:
    """Name the versions with verdicts that a success has beside it; return the exit code that weighs most."""
    from lathe_client.calls import repeated
    from lathe_client.tasks import kind_of

    from services.cli.verdicts import has_no_gain, unaccepted, unverified

    checks = [(ExitCode.UNVERIFIED, "unverified", unverified), (ExitCode.PARITY_WARN, "parity WARN", unaccepted)]
    checks += [(ExitCode.NO_GAIN, "without a gain", has_no_gain)] if require_gain else []
    found: dict[ExitCode, list[str]] = {}
    for member in group.members:
        kind = kind_of(member.task)
        task = repeated(kind.method(connection, "Get"), kind.request("Get", name=member.task))
        for code, _, holds in checks:
            if holds(task.result):
                found.setdefault(code, []).append(short(member.model_version))
    for code, words, _ in checks:
        if code in found:
            note(f"{words}: {', '.join(found[code])}", style="yellow")
    return next((code for code, _, _ in checks if code in found), ExitCode.OK)


def wait_for_group(connection: Connection, group: Any) -> Any:
    """Show a group's progress on stderr until all its tasks have ended, and return it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), BarColumn(), TextColumn("{task.percentage:>3.0f}%"), TimeElapsedColumn())
    words = TextColumn("{task.description}")
    with Progress(*columns, words, console=Console(stderr=True)) as progress:
        bar = progress.add_task("", total=float(len(group.members)))
        for news in _follow(connection, group.name):
            group = news
            done = sum(1 for member in group.members if _has_ended(member))
            completed = sum(1.0 if _has_ended(member) else member.progress for member in group.members)
            progress.update(bar, completed=completed, description=f"{done} of {len(group.members)} tasks have ended")
    return group


def _follow(connection: Connection, name: str) -> Iterator[Any]:
    """Yield a group now and after every change until its tasks have ended; a broken stream is resumed."""
    from lathe_client.calls import resumed

    kind, _ = find_group(connection, name)
    return resumed(kind.method(connection, "WatchGroup"), kind.request("WatchGroup", name=name), lambda _: None)


def show_group(group: Any, output: OutputFormat) -> None:
    """Print the members of a group."""
    if output is OutputFormat.JSON:
        print_json(message_json(group))
        return
    title = f"{group.display_name}: {enum_name(group, 'state').replace('_', ' ').lower()}"
    print_rows(group.members, MEMBERS, title=plain(title))


def _has_ended(member: Any) -> bool:
    return enum_name(member, "state") not in {"PENDING", "RUNNING", "CANCELLING"}


def _result(member: Any) -> str:
    shown = {name: f"{value:.2f}×" if name == "speedup" else f"{value:.4g}" for name, value in member.figures.items()}
    made = [short(member.result_version)] if member.result_version else []
    return ", ".join(made + [f"{plain(name)} {shown[name]}" for name in sorted(shown)])


def _get(connection: Connection, text: str) -> Any:
    from lathe_client.calls import repeated

    kind, name = find_group(connection, text)
    return repeated(kind.method(connection, "GetGroup"), kind.request("GetGroup", name=name))
