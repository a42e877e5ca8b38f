"""Tasks of all kinds by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.listing import pages, read
from services.cli.output import note

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
    return _find(connection, text, "Get", "Tasks/", "a task")


def find_group(connection: Connection, text: str) -> tuple[Kind, str]:
    """Return the kind and the whole name of a group, as `find_task`."""
    return _find(connection, text, "GetGroup", "TaskGroups/", "a group")


def listed(kind: str, verb: str, entries: str, asked: dict[str, Any], limit: int, page: str) -> list[Any]:
    """Return up to `limit` entries of one kind of task, or of all if `kind` is empty; tell on stderr if there are more.

    Args:
        kind: The kind, such as `conversion`.
        verb: The method: `List`.
        entries: Name of the list in its response.
        asked: Fields of the request. Without an `order_by`, the newest of all kinds come first; with one, kind by kind.
        limit: Most entries.
        page: Token to start at; of one kind alone.

    Raises:
        CliError: There is a token, but no kind.
    """
    kinds = known_kinds(kind)
    if page and len(kinds) > 1:
        raise CliError("--page continues a list of one kind of task; give the kind with --kind.", ExitCode.USAGE)
    found: list[Any] = []
    more = False
    with connect() as connection:
        for each in kinds:
            method, request = each.method(connection, verb), each.request(verb, **asked)
            if len(kinds) == 1:
                return pages(method, request, entries, limit, page)
            of_kind, following = read(method, request, entries, limit)
            found += of_kind
            more |= bool(following)
    if not asked["order_by"]:
        found.sort(key=lambda entry: entry.create_time.ToNanoseconds(), reverse=True)
    if more or len(found) > limit:
        note("There are more: show them with a higher --limit, or page by page with --kind.")
    return found[:limit]


def _find(connection: Connection, text: str, verb: str, ending: str, what: str) -> tuple[Kind, str]:
    import grpc
    from lathe_client.tasks import KINDS

    if "/" in text:
        return kind_of(text.replace(ending, "Tasks/", 1)), text
    for kind in KINDS.values():
        name = f"{kind.name}{ending}{text}"
        try:
            kind.call(connection, verb, name=name)
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
        else:
            return kind, name
    raise CliError(f"No service has {what} with the id {text!r}.", ExitCode.NOT_FOUND)


def known_kinds(kind: str) -> list[Kind]:
    """Return the kind of this name, or all for an empty one; a usage error if there is none."""
    from lathe_client.tasks import KINDS

    found = [each for each in KINDS.values() if kind in {"", each.name}]
    if not found:
        kinds = ", ".join(KINDS)
        raise typer.BadParameter(f"{kind!r} is not a kind of task; kinds are {kinds}")
    return found
