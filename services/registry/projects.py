"""What can be done with projects, and what their members may do."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from lathe.internal.v1.registry_service_pb2 import QuotaTable, UseArtifactsRequest
from lathe.registry.v1.artifact_service_pb2 import UPLOAD_STATE_ABORTED, UPLOAD_STATE_FINALIZED
from lathe.registry.v1.project_service_pb2 import (
    CreateProjectRequest,
    ListProjectsRequest,
    Project,
    Quotas,
    UpdateProjectRequest,
)
from lathe.template.v1.template_service_pb2 import ListTemplatesRequest
from lathe.template.v1.template_service_pb2_grpc import TemplateServiceStub
from lathe_client.tasks import KINDS

from services.database.pool import Connection
from services.platform.access import DEFAULT_PROJECT, Role, role_required
from services.platform.errors import failed_precondition
from services.platform.identity import may_administer
from services.platform.interceptors.validation import check
from services.platform.quotas import Table
from services.process.composition import Platform
from services.process.quotas import table_of
from services.registry.blobs import add_uses
from services.registry.kinds import PROJECTS
from services.resources.listing import Entries, ListQuery
from services.resources.store import ResourceStore

CHANGEABLE = ("display_name", "description", "labels", "members", "quotas")
_ROLES = "SELECT project, max(role) AS role FROM project_members WHERE member = ANY ($1) GROUP BY project"


# Ended ones are kept for some days, so that they can be asked for.
_FORGET_UPLOADS = "DELETE FROM uploads WHERE project = $1 AND state = ANY ($2)"
_CONTENTS = """
SELECT name FROM models WHERE project = $1 UNION ALL SELECT name FROM datasets WHERE project = $1
UNION ALL SELECT name FROM architectures WHERE project = $1
UNION ALL SELECT 'uploads/' || uid FROM uploads WHERE project = $1 LIMIT 1
"""


class Projects:
    """Creates, reads, changes and deletes projects."""

    def __init__(self, platform: Platform) -> None:
        settings, database = platform.settings, platform.database
        self._platform = platform
        self._database = database
        self._defaults = Quotas(
            waiting_tasks=settings.quota_waiting_tasks,
            running_tasks=settings.quota_running_tasks,
            open_uploads=settings.quota_open_uploads,
            stored_bytes=settings.quota_stored_bytes,
            calls_per_second=settings.quota_calls_per_second,
        )
        self._store: ResourceStore[Project] = ResourceStore(database, PROJECTS)

    async def create(self, request: CreateProjectRequest) -> Project:
        """Create a project; LatheError ALREADY_EXISTS if its id is taken."""

        async def enter(connection: Connection, made: Project) -> None:
            await _enter_members(connection, made)

        return await self._store.create(
            request.project,
            resource_id=request.project_id,
            request_id=request.request_id,
            request=request,
            on_create=enter,
        )

    async def get(self, name: str) -> Project:
        """Return a project; LatheError NOT_FOUND if there is none."""
        return await self._store.get(name)

    async def page(self, request: ListProjectsRequest, entries: Entries[Project]) -> str:
        """Make one page and return the token of the next."""
        return await self._store.list(ListQuery.from_request(request), entries)

    async def update(self, request: UpdateProjectRequest) -> Project:
        """Change the fields of the mask.

        Raises:
            LatheError: NOT_FOUND; ABORTED for a stale etag; INVALID_ARGUMENT for a bad value or mask;
                PERMISSION_DENIED, reason ROLE_REQUIRED, for quotas, which administrators of the installation set.
        """

        def validate(project: Project) -> None:
            check(project, inside="project", changed=request.update_mask)

        async def enter(connection: Connection, before: Project, after: Project) -> None:
            if before.quotas != after.quotas and not may_administer():
                raise role_required("", Role.ADMIN, Role.NONE)
            await _enter_members(connection, after)

        return await self._store.update(request.project, request.update_mask, CHANGEABLE, validate, on_change=enter)

    async def delete(self, name: str, etag: str) -> None:
        """Delete a project; its name is not given again.

        Raises:
            LatheError: NOT_FOUND; ABORTED for a stale etag; FAILED_PRECONDITION for the default project, and, reason
                PROJECT_NOT_EMPTY, for one in which anything is.
        """
        if name == DEFAULT_PROJECT:
            what = f"'{name}' stays: what states no project belongs to it. Change its members instead."
            raise failed_precondition("IN_USE", what, subject=name)
        await self._store.get(name)
        _refuse(name, await self._elsewhere(name))

        async def remove(connection: Connection, _project: Project) -> None:
            await connection.execute(_FORGET_UPLOADS, name, [UPLOAD_STATE_FINALIZED, UPLOAD_STATE_ABORTED])
            _refuse(name, [row["name"] for row in await connection.fetch(_CONTENTS, name)])

        await self._store.delete(name, etag, on_delete=remove)

    async def quotas(self) -> QuotaTable:
        """Return the quotas of all projects that set some, and those of the others."""
        found = await self._database.fetch("SELECT name, body FROM projects")
        projects = {row["name"]: Project.FromString(row["body"]) for row in found}
        stated = {name: project.quotas for name, project in projects.items() if project.HasField("quotas")}
        return QuotaTable(projects=stated, defaults=self._defaults)

    async def limits(self) -> Table:
        """Return the same as the registry itself keeps to it."""
        return table_of(await self.quotas())

    async def use_artifacts(self, request: UseArtifactsRequest) -> None:
        """Let the members of a project read stored bytes."""
        async with self._database.transaction() as connection:
            await add_uses(connection, PROJECTS.table, request.project, request.resource, request.digests)

    async def _elsewhere(self, project: str) -> list[str]:
        """Return one each of the templates and the tasks of a project, as their services tell an administrator."""
        inside: dict[str, Any] = {"filter": f'project = "{project}"', "page_size": 1}
        templates = TemplateServiceStub(self._platform.channel("template"))
        client: Any = self._platform
        of_tasks = (kind.method(client, "List")(kind.request("List", **inside)) for kind in KINDS.values())
        answers: list[Any] = await asyncio.gather(templates.ListTemplates(ListTemplatesRequest(**inside)), *of_tasks)
        pages = [getattr(answer, answer.DESCRIPTOR.fields[0].name) for answer in answers]
        return [entry.name for page in pages for entry in page]

    async def roles(self, user: str, groups: frozenset[str]) -> Mapping[str, int]:
        """Return a user's role in each project in which there is one, the highest that a name or a group gives."""
        names = ["user:*", f"user:{user}", *(f"group:{group}" for group in groups)]
        return {row["project"]: row["role"] for row in await self._database.fetch(_ROLES, names)}


def _refuse(project: str, contents: list[str]) -> None:
    for name in contents:
        raise failed_precondition(
            "PROJECT_NOT_EMPTY",
            f"'{name}' is in {project}, maybe with others. Delete first what is in the project.",
            subject=name,
        )


async def _enter_members(connection: Connection, project: Project) -> None:
    await connection.execute("DELETE FROM project_members WHERE project = $1", project.name)
    rows = [(each.member, project.name, each.role) for each in project.members]
    await connection.executemany("INSERT INTO project_members (member, project, role) VALUES ($1, $2, $3)", rows)
