"""`lathe events`: what happens to tasks of all kinds, as it happens."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.cli.client import connect
from services.cli.listing import Filter, Label, Mine, filter_of
from services.cli.output import TABLE, Output, OutputFormat, message_json, plain, print_json_line
from services.cli.task_services import known_kinds
from services.cli.views import enum_name, when


def events(
    kind: Annotated[str, typer.Option(help="Only tasks of this kind, such as quantization.")] = "",
    label: Label = None,
    filter_: Filter = "",
    mine: Mine = False,
    existing: Annotated[bool, typer.Option("--existing", help="Begin with the tasks that there are.")] = False,
    output: Output = TABLE,
) -> None:
    """Print the changes of tasks until Ctrl-C, one a line; nothing is left out if a server restarts."""
    from lathe.watch.v1.watch_service_pb2 import WatchTasksRequest
    from lathe_client.calls import resumed

    request = WatchTasksRequest(
        kinds=[each.name for each in known_kinds(kind)] if kind else [],
        filter=filter_of(filter_, label),
        mine_only=mine,
        send_existing=existing,
    )

    def advance(response: Any) -> None:
        request.resume_token = response.resume_token or request.resume_token

    with connect() as connection:
        for response in resumed(connection.watches.WatchTasks, request, advance):
            for change in response.changes:
                if output is OutputFormat.JSON:
                    print_json_line(message_json(change))
                else:
                    typer.echo(_line(change))


def _line(change: Any) -> str:
    status = change.task.status
    happened = "DELETED" if enum_name(change, "type") == "DELETED" else enum_name(status, "state")
    words = status.failure.message or status.message or status.pending_reason
    name = plain(change.task.display_name)
    return f"{when(change.time)} {change.name} {happened:<10} {name}  {plain(words)}".rstrip()
