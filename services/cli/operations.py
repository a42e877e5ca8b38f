"""`lathe operations`: work of the services that is no task: imports, exports, saves, comparisons and uploads."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.listing import Filter, Limit, Mine, filter_of, read
from services.cli.output import TABLE, Column, Output, note, plain, show_message, show_messages
from services.cli.views import colored, enum_name, when

if TYPE_CHECKING:
    from lathe_client.connection import Connection

operations = typer.Typer(
    help="Imports, exports, saves, comparisons and uploads that go on or have ended.", no_args_is_help=True
)


class Kind(NamedTuple):
    """One kind of operation.

    Attributes:
        name: For the command line.
        stub: Of the client.
        module: Of its messages.
        noun: In the names of its methods.
        mark: What the names of its resources have, and of no other kind.
        parent: Stands for every parent; empty if it has none.
    """

    name: str
    stub: str
    module: str
    noun: str
    mark: str
    parent: str = ""

    def call(self, connection: Connection, verb: str, **fields: Any) -> Any:
        """Call a verb: `Get`, `Cancel`, `Delete`."""
        return getattr(getattr(connection, self.stub), self._method(verb))(self.request(verb, **fields))

    def request(self, verb: str, **fields: Any) -> Any:
        """Return the request of a verb."""
        return getattr(import_module(f"lathe.{self.module}_pb2"), f"{self._method(verb)}Request")(**fields)

    def listed(self, connection: Connection, asked: dict[str, Any], limit: int) -> list[Any]:
        """Return up to `limit` of this kind."""
        request = self.request("List", **asked, **({"parent": self.parent} if self.parent else {}))
        method = getattr(getattr(connection, self.stub), self._method("List"))
        entries = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in self.noun)
        return read(method, request, f"{entries.removeprefix('_')}s", limit)[0]

    def _method(self, verb: str) -> str:
        return f"{verb}{self.noun}{'s' if verb == 'List' else ''}"


KINDS = (
    Kind("import", "models", "registry.v1.model_service", "ModelVersionImport", "/imports/", "models/-"),
    Kind("export", "datasets", "registry.v1.dataset_service", "DatasetExport", "/exports/", "datasets/-"),
    Kind("save", "optimizations", "optimizer.v1.optimization_service", "ModelSave", "/saves/", "optimizationTasks/-"),
    Kind(
        "comparison", "evaluations", "evaluator.v1.evaluation_service", "EvaluationComparison", "evaluationComparisons/"
    ),
    Kind("upload", "artifacts", "registry.v1.artifact_service", "Upload", "uploads/"),
)
NameArgument = Annotated[str, typer.Argument(metavar="OPERATION", help="Such as 'models/digits/imports/0198…'.")]


def _progress(operation: Any) -> str:
    if hasattr(operation, "progress"):
        return f"{operation.progress:.0%}"
    return f"{operation.verified_bytes / max(operation.size_bytes, 1):.0%}"


COLUMNS: list[Column[Any]] = [
    Column("operation", lambda each: plain(each.name), whole=True),
    Column("state", lambda each: colored(enum_name(each, "state")), whole=True),
    Column("progress", _progress, numeric=True),
    Column("owner", lambda each: plain(each.owner), detail=True),
    Column("created", lambda each: when(each.create_time), whole=True),
    Column("why", lambda each: plain(each.failure.message)),
]


@operations.command("list")
def list_operations(
    kind: Annotated[str, typer.Option(help=f"Only {', '.join(kind.name for kind in KINDS)}.")] = "",
    state: Annotated[list[str] | None, typer.Option(help="Only in this state, such as RUNNING.")] = None,
    mine: Mine = False,
    filter_: Filter = "",
    limit: Limit = 20,
    output: Output = TABLE,
) -> None:
    """List operations, the newest first."""
    kinds = [each for each in KINDS if kind in {"", each.name}]
    if not kinds:
        raise CliError(
            f"There is no kind '{kind}'; kinds are {', '.join(each.name for each in KINDS)}.", ExitCode.USAGE
        )
    asked = {"mine_only": mine, "filter": filter_of(filter_, None, state=state or [])}
    if state and not kind:  # uploads have states of their own
        kinds = kinds[:-1]
    with connect() as connection:
        found = [each for of_kind in kinds for each in of_kind.listed(connection, asked, limit)]
    found.sort(key=lambda each: each.create_time.ToNanoseconds(), reverse=True)
    show_messages(found[:limit], COLUMNS, output)


@operations.command("get")
def get(name: NameArgument, output: Output = TABLE) -> None:
    """Show an operation."""
    with connect() as connection:
        show_message(_kind_of(name).call(connection, "Get", name=name), COLUMNS, output)


@operations.command("cancel")
def cancel(name: NameArgument, output: Output = TABLE) -> None:
    """End an operation that goes on."""
    with connect() as connection:
        show_message(_kind_of(name).call(connection, "Cancel", name=name), COLUMNS, output)


@operations.command("delete")
def delete(name: NameArgument) -> None:
    """Delete an operation; what it has made stays."""
    kind = _kind_of(name)
    with connect() as connection:
        if kind.name == "upload":
            raise CliError("An upload is cancelled, and goes by itself: lathe operations cancel.", ExitCode.USAGE)
        kind.call(connection, "Delete", name=name)
    note(f"deleted {name}")


def _kind_of(name: str) -> Kind:
    for kind in KINDS:
        if kind.mark in name:
            return kind
    raise CliError(f"'{name}' is no operation. `lathe operations list` shows their names.", ExitCode.USAGE)
