"""`lathe models`: push trained models, show their versions, pull packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.formats import format_of
from services.cli.layouts import Layout, download_in, taken_from
from services.cli.listing import Filter, Label, Limit, Mine, OrderBy, Page, Search, filter_of, pages
from services.cli.names import architecture_name, is_version, model_name, parse_labels, version_name
from services.cli.options import NewLabels, mask_of
from services.cli.output import TABLE, Output, note, show_message, show_messages
from services.cli.views import DIFFERENCES, GRAPHS, LINEAGE, MODELS, VERSIONS

if TYPE_CHECKING:
    from lathe_client.connection import Connection

models = typer.Typer(help="Models and their versions.", no_args_is_help=True)

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Such as 'digits'.")]
VersionArgument = Annotated[str, typer.Argument(metavar="MODEL/NUMBER", help="Such as 'digits/3' or 'digits@best'.")]


@models.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Display name, from which the id is made.")],
    description: Annotated[str, typer.Option()] = "",
    label: NewLabels = None,
    output: Output = TABLE,
) -> None:
    """Create a model, to which versions can be added."""
    from lathe.registry.v1.model_service_pb2 import CreateModelRequest, Model

    model = Model(display_name=name, description=description, labels=parse_labels(label or []))
    with connect() as connection:
        show_message(connection.models.CreateModel(CreateModelRequest(model=model)), MODELS, output)


@models.command("list")
def list_models(
    search: Search = "",
    mine: Mine = False,
    label: Label = None,
    filter_: Filter = "",
    order_by: OrderBy = "",
    limit: Limit = 50,
    page: Page = "",
    output: Output = TABLE,
) -> None:
    """List models."""
    from lathe.registry.v1.model_service_pb2 import ListModelsRequest

    request = ListModelsRequest(search=search, mine_only=mine, filter=filter_of(filter_, label), order_by=order_by)
    with connect() as connection:
        show_messages(pages(connection.models.ListModels, request, "models", limit, page), MODELS, output)


@models.command("versions")
def list_versions(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Such as 'digits'; '-' for all.")] = "-",
    search: Search = "",
    mine: Mine = False,
    label: Label = None,
    filter_: Filter = "",
    order_by: OrderBy = "",
    limit: Limit = 50,
    page: Page = "",
    output: Output = TABLE,
) -> None:
    """List the versions of a model, or of all."""
    from lathe.registry.v1.model_service_pb2 import ListModelVersionsRequest

    request = ListModelVersionsRequest(
        parent=model_name(model), search=search, mine_only=mine, filter=filter_of(filter_, label), order_by=order_by
    )
    with connect() as connection:
        found = pages(connection.models.ListModelVersions, request, "model_versions", limit, page)
        show_messages(found, VERSIONS, output)


@models.command("get")
def get(name: Annotated[str, typer.Argument(help="A model or a version.")], output: Output = TABLE) -> None:
    """Show a model or a version."""
    from lathe.registry.v1.model_service_pb2 import GetModelRequest, GetModelVersionRequest

    with connect() as connection:
        if is_version(name):
            version = connection.models.GetModelVersion(GetModelVersionRequest(name=version_name(name)))
            show_message(version, VERSIONS, output)
        else:
            show_message(connection.models.GetModel(GetModelRequest(name=model_name(name))), MODELS, output)


@models.command("push")
def push(
    model: ModelArgument,
    files: Annotated[list[Path], typer.Argument(help="Files of the version, or the folder that contains them.")],
    format_name: Annotated[str, typer.Option("--format", help="PTH, ONNX, HUGGINGFACE…; detected if not given.")] = "",
    architecture: Annotated[str, typer.Option(help="Architecture of a PTH version.")] = "",
    name: Annotated[str, typer.Option(help="Display name of the version.")] = "",
    description: Annotated[str, typer.Option()] = "",
    label: NewLabels = None,
    create_model: Annotated[bool, typer.Option("--create", help="Create the model if it does not exist.")] = False,
    layout: Annotated[
        Layout | None, typer.Option(help="FILES is one directory in this form, whose rules are checked.")
    ] = None,
    output: Output = TABLE,
) -> None:
    """Upload files and add them to a model as its next version. After an interruption, run it again to continue."""
    from lathe.registry.v1.model_service_pb2 import ModelFormat, ModelVersion

    from services.cli.progress import reading
    from services.cli.transfers import upload_files
    from services.platform.words import number

    chosen, files = taken_from(layout, format_name, files) if layout else (format_of(format_name, files), files)
    with connect() as connection:
        if create_model:
            ensure_model(connection, model)
        else:
            _require_model(connection, model)
        version = ModelVersion(
            format=number(ModelFormat, chosen),
            files=upload_files(connection, files),
            architecture=architecture_name(architecture) if architecture else "",
            display_name=name,
            description=description,
            labels=parse_labels(label or []),
        )
        with reading() as told:
            made = connection.create_version(model_name(model), version, told)
        show_message(made, VERSIONS, output)


@models.command("describe")
def describe(version: VersionArgument, output: Output = TABLE) -> None:
    """Show the graphs of a version: inputs, outputs, operators, parameters."""
    from lathe.registry.v1.model_service_pb2 import DescribeModelVersionRequest

    with connect() as connection:
        description = connection.models.DescribeModelVersion(DescribeModelVersionRequest(name=version_name(version)))
    if output == TABLE:
        show_messages(description.graphs, GRAPHS, output)
    else:
        show_message(description, (), output)


@models.command("diff")
def diff(before: VersionArgument, after: VersionArgument, output: Output = TABLE) -> None:
    """Show how two versions differ."""
    from lathe.registry.v1.model_service_pb2 import DiffModelVersionsRequest

    request = DiffModelVersionsRequest(before=version_name(before), after=version_name(after))
    with connect() as connection:
        differences = connection.models.DiffModelVersions(request).differences
    show_messages(differences, DIFFERENCES, output, empty="The versions are equal.")


@models.command("lineage")
def lineage(version: VersionArgument, output: Output = TABLE) -> None:
    """Show the lineage of a version: its sources, and the versions made from it."""
    from lathe.registry.v1.model_service_pb2 import GetLineageRequest

    with connect() as connection:
        graph = connection.models.GetLineage(GetLineageRequest(name=version_name(version)))
    if output == TABLE:
        show_messages(sorted(graph.nodes, key=lambda node: node.distance), LINEAGE, output)
    else:
        show_message(graph, (), output)


@models.command("download")
def download(
    version: VersionArgument,
    directory: Annotated[Path, typer.Option("--directory", "-d", help="Folder for the files.")] = Path(),
    layout: Annotated[
        Layout | None, typer.Option(help="Write a package as another platform leaves what it converted.")
    ] = None,
) -> None:
    """Download the files of a version, checked against their digests."""
    from lathe.registry.v1.model_service_pb2 import GetModelVersionRequest

    from services.cli.transfers import download_files

    with connect() as connection:
        found = connection.models.GetModelVersion(GetModelVersionRequest(name=version_name(version)))
        if layout:
            download_in(layout, connection, found, directory)
            return
        download_files(connection, found.files, directory)
    note(f"{len(found.files)} file{'' if len(found.files) == 1 else 's'} in {directory}")


@models.command("update")
def update(
    model: ModelArgument,
    name: Annotated[str | None, typer.Option(help="New display name.")] = None,
    description: Annotated[str | None, typer.Option()] = None,
    label: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Replaces all labels.")] = None,
    output: Output = TABLE,
) -> None:
    """Change a model's name, description or labels."""
    from lathe.registry.v1.model_service_pb2 import Model, UpdateModelRequest

    given = {"display_name": name, "description": description, "labels": label}
    changed = Model(
        name=model_name(model), display_name=name or "", description=description or "", labels=parse_labels(label or [])
    )
    request = UpdateModelRequest(model=changed, update_mask=mask_of(given))
    with connect() as connection:
        show_message(connection.models.UpdateModel(request), MODELS, output)


@models.command("delete")
def delete(
    name: Annotated[str, typer.Argument(help="A model or a version.")],
    force: Annotated[bool, typer.Option("--force", help="Also delete the model's versions.")] = False,
) -> None:
    """Delete a version or a model. Fails while something refers to it. Its name is never reused."""
    from lathe.registry.v1.model_service_pb2 import DeleteModelRequest, DeleteModelVersionRequest

    if "@" in name:
        raise CliError("An alias may move: name the version to delete by its number, such as digits/3.", ExitCode.USAGE)
    with connect() as connection:
        if is_version(name):
            connection.models.DeleteModelVersion(DeleteModelVersionRequest(name=version_name(name)))
        else:
            connection.models.DeleteModel(DeleteModelRequest(name=model_name(name), force=force))
    note(f"deleted {name}")


def _require_model(connection: Connection, model: str) -> None:
    """Refuse a model that does not exist, before anything is uploaded for it."""
    import grpc
    from lathe.registry.v1.model_service_pb2 import GetModelRequest

    try:
        connection.models.GetModel(GetModelRequest(name=model_name(model)))
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.NOT_FOUND:
            raise
        message = f"There is no model named '{model}'. Add --create to create it."
        raise CliError(message, ExitCode.NOT_FOUND) from error


def ensure_model(connection: Connection, model: str) -> None:
    """Create the model if it does not exist."""
    import grpc
    from lathe.registry.v1.model_service_pb2 import CreateModelRequest, Model

    model_id = model.removeprefix("models/")
    try:
        connection.models.CreateModel(CreateModelRequest(model=Model(display_name=model_id), model_id=model_id))
    except grpc.RpcError as error:
        if error.code() != grpc.StatusCode.ALREADY_EXISTS:
            raise
