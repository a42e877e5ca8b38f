"""`lathe architectures`: the code into which weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.listing import Filter, Label, Limit, Mine, OrderBy, Page, Search, filter_of, pages
from services.cli.names import architecture_name, parse_labels
from services.cli.options import NewLabels
from services.cli.output import TABLE, Output, note, show_message, show_messages
from services.cli.views import ARCHITECTURES

architectures = typer.Typer(help="Architectures: the code into which weights are loaded.", no_args_is_help=True)

ArchitectureArgument = Annotated[str, typer.Argument(metavar="ARCHITECTURE", help="Such as 'digitscnn'.")]


@architectures.command("create")
def create(
    file: Annotated[Path, typer.Argument(help="Python file whose last function builds the network.")],
    name: Annotated[str, typer.Option(help="Name for people; the class name if not given.")] = "",
    config: Annotated[Path | None, typer.Option(help="YAML or JSON file of keyword arguments.")] = None,
    description: Annotated[str, typer.Option()] = "",
    label: NewLabels = None,
    output: Output = TABLE,
) -> None:
    """Register an architecture. The file is parsed, never run; its class name is found in it."""
    from lathe.registry.v1.architecture_service_pb2 import Architecture, CreateArchitectureRequest

    from engines.formats.pytorch.architecture import ArchitectureError, inspect_architecture

    source = read_text(file)
    try:
        class_name = inspect_architecture(source).class_name
    except ArchitectureError as error:
        raise CliError(f"{file}: {error}", ExitCode.USAGE) from error
    architecture = Architecture(
        display_name=name or class_name,
        class_name=class_name,
        source=source,
        file_name=file.name,
        config=read_text(config) if config else "",
        description=description,
        labels=parse_labels(label or []),
    )
    with connect() as connection:
        created = connection.architectures.CreateArchitecture(CreateArchitectureRequest(architecture=architecture))
    show_message(created, ARCHITECTURES, output)


@architectures.command("list")
def list_architectures(
    search: Search = "",
    mine: Mine = False,
    label: Label = None,
    filter_: Filter = "",
    order_by: OrderBy = "",
    limit: Limit = 50,
    page: Page = "",
    output: Output = TABLE,
) -> None:
    """List architectures."""
    from lathe.registry.v1.architecture_service_pb2 import ListArchitecturesRequest

    request = ListArchitecturesRequest(
        search=search, mine_only=mine, filter=filter_of(filter_, label), order_by=order_by
    )
    with connect() as connection:
        found = pages(connection.architectures.ListArchitectures, request, "architectures", limit, page)
        show_messages(found, ARCHITECTURES, output)


@architectures.command("get")
def get(
    architecture: ArchitectureArgument,
    source: Annotated[bool, typer.Option("--source", help="Print the source file alone.")] = False,
    output: Output = TABLE,
) -> None:
    """Show an architecture, or its source."""
    from lathe.registry.v1.architecture_service_pb2 import GetArchitectureRequest

    with connect() as connection:
        found = connection.architectures.GetArchitecture(GetArchitectureRequest(name=architecture_name(architecture)))
    if source:
        typer.echo(found.source, nl=False)
    else:
        show_message(found, ARCHITECTURES, output)


@architectures.command("delete")
def delete(architecture: ArchitectureArgument) -> None:
    """Delete an architecture; refused while a model version refers to it. Its name is not used again."""
    from lathe.registry.v1.architecture_service_pb2 import DeleteArchitectureRequest

    with connect() as connection:
        connection.architectures.DeleteArchitecture(DeleteArchitectureRequest(name=architecture_name(architecture)))
    note(f"deleted {architecture}")


def read_text(path: Path) -> str:
    """Return the text of a file.

    Raises:
        CliError: It cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CliError(f"{path}: this is not UTF-8 text", ExitCode.USAGE) from error
