"""Tasks of all kinds by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError

if TYPE_CHECKING:
    from lathe_client.connection import Connection
    from lathe_client.tasks import Kind


def kind_of(name: str) -> Kind:
    """Return the kind of a task by the task's whole name.

    Raises:
        CliError: The name is not that of a task.
    """
    from lathe_client import tasks

    try:
        return tasks.kind_of(name)
    except ValueError as error:
        raise CliError(f"{error}.", ExitCode.USAGE) from None


def find_task(connection: Connection, text: str) -> tuple[Kind, str]:
    """Return the kind and the whole name of a task; for a bare id, all services are asked.

    Raises:
        CliError: The name is not that of a task, or no service knows the id.
    """
    import grpc
    from lathe_client.tasks import KINDS

    if "/" in text:
        return kind_of(text), text
    for kind in KINDS.values():
        name = f"{kind.collection}/{text}"
        try:
            kind.call(connection, "Get", name=name)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
        else:
            return kind, name
    raise CliError(f"No service has a task with the id {text!r}.", ExitCode.NOT_FOUND)


def known_kinds(kind: str) -> list[Kind]:
    """Return the kind of this name, or all for an empty one; a usage error if there is none."""
    from lathe_client.tasks import KINDS

    found = [each for each in KINDS.values() if kind in {"", each.name}]
    if not found:
        kinds = ", ".join(KINDS)
        raise typer.BadParameter(f"{kind!r} is not a kind of task; kinds are {kinds}")
    return found
