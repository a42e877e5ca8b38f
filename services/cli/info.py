"""`lathe info` and `lathe whoami`: the installation, and who you are there."""

from __future__ import annotations

from typing import Any

from services.cli.client import connect
from services.cli.output import TABLE, Column, Output, OutputFormat, plain, print_rows, show_message
from services.cli.views import when

SERVICES: list[Column[Any]] = [
    Column("service", lambda service: plain(service.service), whole=True),
    Column("address", lambda service: plain(service.address), whole=True),
    Column("state", lambda service: "[green]serving[/]" if service.serving else "[red]does not answer[/]"),
]


def _formats(info: Any) -> str:
    from lathe.registry.v1.model_service_pb2 import ModelFormat

    return ", ".join(ModelFormat.Name(value).removeprefix("MODEL_FORMAT_") for value in info.model_formats)


def _authentication(message: Any) -> str:
    from lathe.registry.v1.info_service_pb2 import Authentication

    return Authentication.Name(message.authentication).removeprefix("AUTHENTICATION_").lower()


def _roles(identity: Any) -> str:
    from lathe.registry.v1.info_service_pb2 import Role

    return ", ".join(Role.Name(value).removeprefix("ROLE_").lower() for value in identity.roles)


def _projects(identity: Any) -> str:
    from lathe.type.v1.access_pb2 import Role as ProjectRole

    roles = ((each.project, ProjectRole.Name(each.role).removeprefix("ROLE_").lower()) for each in identity.projects)
    return plain(", ".join(f"{project.removeprefix('projects/')} ({role})" for project, role in roles) or "–")


INFO: list[Column[Any]] = [
    Column("version", lambda info: plain(f"{info.version} {info.build}".strip()), whole=True),
    Column("authentication", _authentication),
    Column("stores", lambda info: plain(", ".join(store.kind for store in info.stores))),
    Column("tasks", lambda info: plain(", ".join(info.task_kinds))),
    Column("runtimes", lambda info: plain(", ".join(info.runtimes))),
    Column("formats", _formats),
]
IDENTITY: list[Column[Any]] = [
    Column("user", lambda identity: plain(identity.user), whole=True),
    Column("authentication", _authentication),
    Column("roles", _roles),
    Column("projects", _projects),
    Column("groups", lambda identity: plain(", ".join(identity.groups))),
    Column("expires", lambda identity: when(identity.expire_time) if identity.HasField("expire_time") else "never"),
]


def info(output: Output = TABLE) -> None:
    """Show what is installed: versions, services and whether they answer, formats, runtimes, limits."""
    from lathe.registry.v1.info_service_pb2 import GetInfoRequest

    with connect() as connection:
        found = connection.info.GetInfo(GetInfoRequest())
    show_message(found, INFO, output)
    if output is not OutputFormat.JSON:
        print_rows(found.services, SERVICES)


def whoami(output: Output = TABLE) -> None:
    """Show who you are for the services, and what you may do."""
    from lathe.registry.v1.info_service_pb2 import WhoAmIRequest

    with connect() as connection:
        show_message(connection.info.WhoAmI(WhoAmIRequest()), IDENTITY, output)
