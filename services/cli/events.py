"""`lathe events`: what happens to tasks of all kinds, as it happens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.listing import Filter, Label, Mine, filter_of, of_project
from services.cli.output import TABLE, Output, OutputFormat, message_json, plain, print_json_line
from services.cli.task_services import known_kinds
from services.cli.views import colored, enum_name, when

_EXPIRED = "WATCH_EXPIRED"


def events(
    kind: Annotated[
        list[str] | None, typer.Option(help="Only tasks of this kind, such as quantization; may be repeated.")
    ] = None,
    device: Annotated[list[str] | None, typer.Option(help="Only tasks for this device; may be repeated.")] = None,
    label: Label = None,
    filter_: Filter = "",
    mine: Mine = False,
    existing: Annotated[bool, typer.Option("--existing", help="Begin with the tasks that there are.")] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            dir_okay=False,
            help="Keep in this file how far was read, and begin there: no change is left out between two runs.",
        ),
    ] = None,
    output: Output = TABLE,
) -> None:
    """Print the changes of tasks until Ctrl-C, one a line; nothing is left out if a server restarts."""
    from lathe.watch.v1.watch_service_pb2 import WatchTasksRequest
    from lathe_client.calls import resumed
    from lathe_client.errors import LatheError

    request = WatchTasksRequest(
        kinds=[found.name for each in kind or [] for found in known_kinds(each)],
        filter=of_project(filter_of(filter_, label, device=device or [])),
        mine_only=mine,
        send_existing=existing,
        resume_token=_read(resume),
    )

    def advance(response: Any) -> None:
        request.resume_token = response.resume_token or request.resume_token

    with connect() as connection:
        try:
            for response in resumed(connection.watches.WatchTasks, request, advance):
                for change in response.changes:
                    _print(change, output)
                # Only now: who is stopped in between reads some changes twice, and misses none.
                if resume is not None and response.resume_token:
                    _write(resume, response.resume_token)
        except LatheError as error:
            if resume is None or error.reason != _EXPIRED:
                raise
            told = f"{error.message} Here, the token is that of {resume}: remove the file."
            raise CliError(told, ExitCode.FAILED) from None


def _read(resume: Path | None) -> str:
    if resume is None or not resume.exists():
        return ""
    return resume.read_text(encoding="utf-8").strip()


def _write(resume: Path, token: str) -> None:
    """Replace the file as a whole, so that one that is killed leaves the old token or the new one."""
    new = resume.with_name(f"{resume.name}.new")
    new.write_text(token + "\n", encoding="utf-8")
    new.replace(resume)


def _print(change: Any, output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        print_json_line(message_json(change))
        return
    from rich.console import Console

    Console(soft_wrap=True, highlight=False).print(_line(change))


def _line(change: Any) -> str:
    task, status = change.task, change.task.status
    happened = "DELETED" if enum_name(change, "type") == "DELETED" else enum_name(status, "state")
    gap = " " * (10 - len(happened))
    working = f"{enum_name(status, 'stage').replace('_', ' ').lower()} {status.progress:.0%}" if status.stage else ""
    words = status.failure.message or status.message or status.pending_reason
    shown = (task.device, task.owner, task.display_name, working, words)
    facts = "  ".join(plain(" ".join(each.split())) for each in shown if each)
    return f"{when(change.time)} {plain(change.name)} {colored(happened)}{gap} {facts}".rstrip()
