"""`lathe aliases`: names such as `best` that move from version to version of a model."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.cli.client import connect
from services.cli.listing import Filter, Label, Limit, Mine, OrderBy, Page, Search, filter_of, pages
from services.cli.names import alias_name, model_name, model_of, version_name
from services.cli.output import TABLE, Column, Output, note, plain, show_message, show_messages
from services.cli.views import labels, short, when

aliases = typer.Typer(
    help="Aliases of versions: 'digits@best' stands for 'digits/3' until it moves.", no_args_is_help=True
)

COLUMNS: list[Column[Any]] = [
    Column("alias", lambda alias: _short(alias.name), whole=True),
    Column("version", lambda alias: short(alias.model_version), whole=True),
    Column("labels", labels, detail=True),
    Column("owner", lambda alias: plain(alias.owner)),
    Column("moved", lambda alias: when(alias.update_time), whole=True),
    Column("etag", lambda alias: plain(alias.etag), detail=True),
]

AliasArgument = Annotated[str, typer.Argument(metavar="MODEL@ALIAS", help="Such as 'digits@best'.")]


@aliases.command("set")
def set_alias(
    alias: AliasArgument,
    version: Annotated[str, typer.Argument(help="Number of the version, or its name, such as 'digits/3'.")],
    etag: Annotated[str, typer.Option(help="Move it only if this is still its etag.")] = "",
    output: Output = TABLE,
) -> None:
    """Let an alias stand for a version: create it, or move it."""
    from google.protobuf.field_mask_pb2 import FieldMask
    from lathe.registry.v1.alias_service_pb2 import Alias, UpdateAliasRequest

    name = alias_name(alias)
    wanted = f"{model_of(name)}/versions/{version}" if version.isdigit() else version_name(version)
    request = UpdateAliasRequest(
        alias=Alias(name=name, model_version=wanted, etag=etag),
        update_mask=FieldMask(paths=["model_version"]),
        allow_missing=not etag,
    )
    with connect() as connection:
        show_message(connection.aliases.UpdateAlias(request), COLUMNS, output)


@aliases.command("get")
def get(alias: AliasArgument, output: Output = TABLE) -> None:
    """Show an alias and its version."""
    from lathe.registry.v1.alias_service_pb2 import GetAliasRequest

    with connect() as connection:
        show_message(connection.aliases.GetAlias(GetAliasRequest(name=alias_name(alias))), COLUMNS, output)


@aliases.command("list")
def list_aliases(
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
    """List the aliases of a model, or of all."""
    from lathe.registry.v1.alias_service_pb2 import ListAliasesRequest

    request = ListAliasesRequest(
        parent=model_name(model), search=search, mine_only=mine, filter=filter_of(filter_, label), order_by=order_by
    )
    with connect() as connection:
        show_messages(pages(connection.aliases.ListAliases, request, "aliases", limit, page), COLUMNS, output)


@aliases.command("delete")
def delete(alias: AliasArgument) -> None:
    """Delete an alias; its version stays."""
    from lathe.registry.v1.alias_service_pb2 import DeleteAliasRequest

    with connect() as connection:
        connection.aliases.DeleteAlias(DeleteAliasRequest(name=alias_name(alias)))
    note(f"deleted {alias}")


def _short(name: str) -> str:
    """Return an alias's short name for the command line: `digits@best`."""
    return plain(name.removeprefix("models/").replace("/aliases/", "@"))
