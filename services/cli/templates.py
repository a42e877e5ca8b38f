"""`lathe templates`: reusable specifications of conversions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from services.cli.client import connect
from services.cli.listing import Filter, Label, Limit, Mine, OrderBy, Page, Search, filter_of, pages
from services.cli.names import template_name, version_name
from services.cli.output import TABLE, Output, note, show_message, show_messages
from services.cli.views import PROVENANCE, TEMPLATES

templates = typer.Typer(help="Templates: reusable specifications of conversions.", no_args_is_help=True)

TemplateArgument = Annotated[str, typer.Argument(metavar="TEMPLATE", help="Such as 'pth-cpu-x86-64-openvino-fp32'.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Override a value: components.net.max_batch=8."),
]
OverridesFile = Annotated[
    Path | None, typer.Option("--overrides", help="YAML or JSON file with fields of a template that replace its own.")
]


@templates.command("create")
def create(
    file: Annotated[Path, typer.Argument(help="YAML or JSON file with the fields of a template.")],
    template_id: Annotated[str, typer.Option("--id", help="Id; derived from the display name if not given.")] = "",
    output: Output = TABLE,
) -> None:
    """Create a template from a file."""
    from lathe.template.v1.template_service_pb2 import CreateTemplateRequest, Template

    from services.cli.documents import read_document

    request = CreateTemplateRequest(template=read_document(file, Template()), template_id=template_id)
    with connect() as connection:
        show_message(connection.templates.CreateTemplate(request), TEMPLATES, output)


@templates.command("list")
def list_templates(
    search: Search = "",
    mine: Mine = False,
    label: Label = None,
    device: Annotated[str, typer.Option(help="Only templates for this device.")] = "",
    runtime: Annotated[str, typer.Option(help="Only templates for this runtime.")] = "",
    source: Annotated[str, typer.Option(help="Only templates that take this format, such as PTH.")] = "",
    filter_: Filter = "",
    order_by: OrderBy = "",
    limit: Limit = 50,
    page: Page = "",
    output: Output = TABLE,
) -> None:
    """List templates, including built-in ones."""
    from lathe.template.v1.template_service_pb2 import ListTemplatesRequest

    request = ListTemplatesRequest(
        search=search,
        mine_only=mine,
        filter=filter_of(filter_, label, device=device, runtime=runtime, source_format=source.upper()),
        order_by=order_by,
    )
    with connect() as connection:
        show_messages(pages(connection.templates.ListTemplates, request, "templates", limit, page), TEMPLATES, output)


@templates.command("get")
def get(template: TemplateArgument, output: Output = TABLE) -> None:
    """Show a template; with `--output json` in a form to edit and create under another name."""
    from lathe.template.v1.template_service_pb2 import GetTemplateRequest

    with connect() as connection:
        found = connection.templates.GetTemplate(GetTemplateRequest(name=template_name(template)))
    show_message(found, TEMPLATES, output)


@templates.command("resolve")
def resolve(
    template: TemplateArgument,
    set_: Set = None,
    overrides_file: OverridesFile = None,
    version: Annotated[str, typer.Option(metavar="MODEL/NUMBER", help="The version to convert.")] = "",
    output: Output = TABLE,
) -> None:
    """Show the full specification that a task would run, and the source of each value."""
    from lathe.template.v1.template_service_pb2 import ResolveTemplateRequest

    from services.cli.documents import overrides

    request = ResolveTemplateRequest(
        name=template_name(template),
        overrides=overrides(set_ or [], overrides_file),
        model_version=version_name(version) if version else "",
    )
    with connect() as connection:
        resolved = connection.templates.ResolveTemplate(request)
    if output == TABLE:
        show_messages(resolved.provenance, PROVENANCE, output)
    else:
        show_message(resolved, (), output)


@templates.command("delete")
def delete(template: TemplateArgument) -> None:
    """Delete one of your templates. Its name is never reused."""
    from lathe.template.v1.template_service_pb2 import DeleteTemplateRequest

    with connect() as connection:
        connection.templates.DeleteTemplate(DeleteTemplateRequest(name=template_name(template)))
    note(f"deleted {template}")
