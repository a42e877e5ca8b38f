"""`lathe projects`: who may see and change what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.cli.client import connect
from services.cli.exit_codes import ExitCode
from services.cli.failures import CliError
from services.cli.listing import Filter, Label, Limit, Mine, OrderBy, Page, Search, filter_of, pages
from services.cli.names import parse_labels, project_name
from services.cli.options import NewLabels
from services.cli.output import TABLE, Column, Output, OutputFormat, note, plain, show_message, show_messages
from services.cli.usage import used, warn
from services.cli.views import labels, when

if TYPE_CHECKING:
    from lathe.registry.v1.project_service_pb2 import Project, ProjectMember, Quotas

projects = typer.Typer(help="Projects: who may see and change what.", no_args_is_help=True)

ROLES = ("VIEWER", "EDITOR", "RELEASER", "ADMIN")
_SHARED = {"models": "model", "datasets": "dataset", "architectures": "architecture", "templates": "template"}
COLUMNS: list[Column[Any]] = [
    Column("project", lambda project: plain(project.name.removeprefix("projects/")), whole=True),
    Column("name", lambda project: plain(project.display_name)),
    Column("members", lambda project: plain(", ".join(map(_told, project.members)))),
    Column("quotas", lambda project: plain(_quotas(project.quotas))),
    Column("description", lambda project: plain(project.description), detail=True),
    Column("labels", labels, detail=True),
    Column("owner", lambda project: plain(project.owner), detail=True),
    Column("created", lambda project: when(project.create_time), whole=True),
    Column("etag", lambda project: plain(project.etag), detail=True),
]

ProjectArgument = Annotated[str, typer.Argument(metavar="PROJECT", help="Such as 'vision'.")]
MemberArgument = Annotated[
    str, typer.Argument(metavar="MEMBER", help="Such as user:ada, group:vision, or user:* for every user.")
]
ResourceArgument = Annotated[
    str, typer.Argument(metavar="RESOURCE", help="Such as models/digits, datasets/faces, architectures/net.")
]
WithProject = Annotated[str, typer.Argument(metavar="PROJECT", help="Whose members may read it; '-' for all.")]


@projects.command("create")
def create(
    project: Annotated[str, typer.Argument(help="Id of the new project, such as 'vision'.")],
    name: Annotated[str, typer.Option(help="Name for people; the id if not given.")] = "",
    description: Annotated[str, typer.Option()] = "",
    member: Annotated[
        list[str] | None, typer.Option(metavar="MEMBER=ROLE", help="Such as user:ada=ADMIN or group:vision=EDITOR.")
    ] = None,
    label: NewLabels = None,
    output: Output = TABLE,
) -> None:
    """Create a project. For administrators of the installation."""
    from lathe.registry.v1.project_service_pb2 import CreateProjectRequest, Project

    made = Project(
        display_name=name or project,
        description=description,
        labels=parse_labels(label or []),
        members=[_member(*text.rpartition("=")[::2]) for text in member or []],
    )
    with connect() as connection:
        request = CreateProjectRequest(project=made, project_id=project.removeprefix("projects/"))
        show_message(connection.projects.CreateProject(request), COLUMNS, output)


@projects.command("list")
def list_projects(
    search: Search = "",
    mine: Mine = False,
    label: Label = None,
    filter_: Filter = "",
    order_by: OrderBy = "",
    limit: Limit = 50,
    page: Page = "",
    output: Output = TABLE,
) -> None:
    """List the projects in which you have a role."""
    from lathe.registry.v1.project_service_pb2 import ListProjectsRequest

    request = ListProjectsRequest(search=search, mine_only=mine, filter=filter_of(filter_, label), order_by=order_by)
    with connect() as connection:
        show_messages(pages(connection.projects.ListProjects, request, "projects", limit, page), COLUMNS, output)


@projects.command("get")
def get(project: ProjectArgument, output: Output = TABLE) -> None:
    """Show a project with its members, and what it uses beside its quotas."""
    from lathe.registry.v1.project_service_pb2 import GetProjectRequest
    from lathe.registry.v1.storage_service_pb2 import GetProjectUsageRequest

    name = project_name(project)
    with connect() as connection:
        found = connection.projects.GetProject(GetProjectRequest(name=name))
        if output is OutputFormat.JSON:
            show_message(found, COLUMNS, output)
            return
        usage = connection.storage.GetProjectUsage(GetProjectUsageRequest(project=name))
    own = [column for column in COLUMNS if column.header != "quotas"]
    show_message(found, [*own, *used(usage)], output)
    warn(usage.unreachable)


@projects.command("grant")
def grant(
    project: ProjectArgument,
    member: MemberArgument,
    role: Annotated[str, typer.Argument(help="VIEWER, EDITOR, RELEASER or ADMIN: each may do what those before may.")],
    output: Output = TABLE,
) -> None:
    """Give a member a role, instead of the one that it has. It counts within ten seconds."""
    given = _member(member, role)

    def change(stored: Project) -> None:
        kept = [each for each in stored.members if each.member != member]
        del stored.members[:]
        stored.members.extend([*kept, given])

    _change(project, change, output)


@projects.command("revoke")
def revoke(project: ProjectArgument, member: MemberArgument, output: Output = TABLE) -> None:
    """Take a member's role away. It counts within ten seconds."""

    def change(stored: Project) -> None:
        kept = [each for each in stored.members if each.member != member]
        if len(kept) == len(stored.members):
            raise CliError(f"{member} is no member of {stored.name}.", ExitCode.USAGE)
        del stored.members[:]
        stored.members.extend(kept)

    _change(project, change, output)


@projects.command("limit")
def limit(
    project: ProjectArgument,
    waiting_tasks: Annotated[int | None, typer.Option(min=-1, help="Tasks that may wait, of each kind apart.")] = None,
    running_tasks: Annotated[int | None, typer.Option(min=-1, help="Tasks that may run, of each kind apart.")] = None,
    open_uploads: Annotated[int | None, typer.Option(min=-1, help="Uploads that may be open.")] = None,
    stored_bytes: Annotated[int | None, typer.Option(min=-1, help="Bytes that may be stored.")] = None,
    calls_per_second: Annotated[
        int | None, typer.Option(min=-1, help="Calls that each server takes in a second.")
    ] = None,
    output: Output = TABLE,
) -> None:
    """Set how much a project may use: 0 is any number, -1 is what the installation says for all.

    For administrators of the installation.
    """
    wanted = {
        "waiting_tasks": waiting_tasks,
        "running_tasks": running_tasks,
        "open_uploads": open_uploads,
        "stored_bytes": stored_bytes,
        "calls_per_second": calls_per_second,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    if not given:
        raise CliError("Say what to limit, such as --running-tasks 8.", ExitCode.USAGE)

    def change(stored: Project) -> None:
        for name, value in given.items():
            if value < 0:
                stored.quotas.ClearField(name)  # type: ignore[arg-type] # one of its fields
            else:
                setattr(stored.quotas, name, value)

    _change(project, change, output, "quotas")


@projects.command("delete")
def delete(project: ProjectArgument) -> None:
    """Delete a project; refused while anything is in it. For administrators of the installation."""
    from lathe.registry.v1.project_service_pb2 import DeleteProjectRequest

    with connect() as connection:
        connection.projects.DeleteProject(DeleteProjectRequest(name=project_name(project)))
    note(f"deleted {project}")


@projects.command("share")
def share(resource: ResourceArgument, project: WithProject) -> None:
    """Let the members of another project read a model, dataset, architecture or template."""
    _share(resource, lambda shared: {*shared, project_name(project)})
    note(f"{resource} is shared with {project_name(project)}")


@projects.command("unshare")
def unshare(resource: ResourceArgument, project: WithProject) -> None:
    """Stop sharing with a project."""
    _share(resource, lambda shared: shared - {project_name(project)})
    note(f"{resource} is not shared with {project_name(project)}")


def _member(member: str, role: str) -> ProjectMember:
    from lathe.registry.v1.project_service_pb2 import ProjectMember

    from services.platform.words import number

    if not member.startswith(("user:", "group:")):
        raise CliError(f"{member!r} is no member; write user:NAME or group:NAME.", ExitCode.USAGE)
    if role.upper() not in ROLES:
        raise CliError(f"{role!r} is no role; choose {', '.join(ROLES)}.", ExitCode.USAGE)
    from lathe.type.v1.access_pb2 import Role

    return ProjectMember(member=member, role=number(Role, role.upper()))


def _told(member: ProjectMember) -> str:
    from lathe.type.v1.access_pb2 import Role

    return f"{member.member}={Role.Name(member.role).removeprefix('ROLE_')}"


def _quotas(quotas: Quotas) -> str:
    words = ("waiting_tasks", "running_tasks", "open_uploads", "stored_bytes", "calls_per_second")
    return ", ".join(f"{name.replace('_', ' ')} {getattr(quotas, name)}" for name in words if quotas.HasField(name))  # type: ignore[arg-type] # one of its fields


def _change(project: str, change: Any, output: Any, field: str = "members") -> None:
    """Change a project as it is now; refused if another change comes between."""
    from google.protobuf.field_mask_pb2 import FieldMask
    from lathe.registry.v1.project_service_pb2 import GetProjectRequest, UpdateProjectRequest

    with connect() as connection:
        stored = connection.projects.GetProject(GetProjectRequest(name=project_name(project)))
        change(stored)
        request = UpdateProjectRequest(project=stored, update_mask=FieldMask(paths=[field]))
        show_message(connection.projects.UpdateProject(request), COLUMNS, output)


def _share(resource: str, change: Any) -> None:
    """Change with whom a resource is shared; refused if another change comes between."""
    from google.protobuf.field_mask_pb2 import FieldMask
    from lathe.registry.v1 import architecture_service_pb2, dataset_service_pb2, model_service_pb2
    from lathe.template.v1 import template_service_pb2

    files: dict[str, Any] = {
        "models": model_service_pb2,
        "datasets": dataset_service_pb2,
        "architectures": architecture_service_pb2,
        "templates": template_service_pb2,
    }
    collection, _, rest = resource.partition("/")
    if collection not in files or not rest or "/" in rest:
        raise CliError(f"{resource!r} cannot be shared; write models/NAME, datasets/NAME…", ExitCode.USAGE)
    field = _SHARED[collection]
    noun, file = field.capitalize(), files[collection]
    with connect() as connection:
        calls: Any = getattr(connection, collection)
        stored = getattr(calls, f"Get{noun}")(getattr(file, f"Get{noun}Request")(name=resource))
        shared = sorted(change(set(stored.shared_with)))
        changed = getattr(file, noun)(name=resource, etag=stored.etag, shared_with=shared)
        mask = FieldMask(paths=["shared_with"])
        getattr(calls, f"Update{noun}")(getattr(file, f"Update{noun}Request")(**{field: changed, "update_mask": mask}))
