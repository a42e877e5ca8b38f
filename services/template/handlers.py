"""Templates: creating, reading, changing, resolving, deleting them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import grpc
import structlog
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.internal.v1.resolution_service_pb2 import ResolveTaskTemplateRequest
from lathe.registry.v1.model_service_pb2 import GetModelVersionRequest, ModelFormat, ModelVersion
from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub
from lathe.registry.v1.project_service_pb2 import GetProjectRequest
from lathe.registry.v1.project_service_pb2_grpc import ProjectServiceStub
from lathe.template.v1.template_service_pb2 import (
    CreateTemplateRequest,
    ListTemplatesRequest,
    ListTemplatesResponse,
    ResolvedTemplate,
    ResolveTemplateRequest,
    Template,
    UpdateTemplateRequest,
)

from services.database.pool import Connection, Database
from services.platform.access import DEFAULT_PROJECT, EVERYBODY, Role, require_role
from services.platform.changes import names_field
from services.platform.errors import LatheError, failed_precondition, from_rpc_error, invalid_argument
from services.platform.identity import acting_as, current_user
from services.platform.interceptors.validation import check
from services.resources.filters.fields import FLAG, TEXT, word_field
from services.resources.kind import ResourceKind
from services.resources.listing import Entries, ListQuery
from services.resources.paging import MAX_PAGE_SIZE
from services.resources.scope import Stated
from services.resources.store import ResourceStore
from services.siblings.resolution import RESOLVED
from services.template.builtin import OWNER, built_in_templates
from services.template.resolve import resolve
from services.template.rules import check_complete, check_template

TEMPLATES = ResourceKind(
    Template,
    table="templates",
    collection="templates",
    noun="template",
    columns={
        "device": lambda template: template.device,
        "runtime": lambda template: template.runtime,
        "source_format": lambda template: template.source_format,
        "built_in": lambda template: template.built_in,
    },
    fields={
        "device": TEXT,
        "runtime": TEXT,
        "source_format": word_field(ModelFormat),
        "built_in": FLAG,
    },
    unique=("display_name",),
    # Up to a megabyte of them each.
    detail_fields=("taxonomies", "args", "components"),
    retires_names=lambda _: True,
    # Those that come with Lathe are everybody's.
    scope=Stated(of=lambda template: "" if template.built_in else template.project or DEFAULT_PROJECT),
)

_SET_BY_SERVICE = frozenset({"name", "uid", "owner", "create_time", "update_time", "etag", "built_in", "project"})
# Resolutions that are kept: at most so many, of so many bytes.
_MOST_KEPT, _LARGEST_KEPT = 256, 64 << 10
# Retired for everybody but a later release that has the template again; no template's name has a space.
_KEEP_FOR_BUILT_IN = "INSERT INTO retired_names (name) VALUES ('built-in ' || $1) ON CONFLICT DO NOTHING"
_BRING_BACK = """
DELETE FROM retired_names WHERE name = $1 AND EXISTS (SELECT 1 FROM retired_names WHERE name = 'built-in ' || $1)
RETURNING 1
"""
_log: Any = structlog.get_logger("lathe.templates")
CHANGEABLE = [field.name for field in Template.DESCRIPTOR.fields if field.name not in _SET_BY_SERVICE]


class Templates:
    """Creates, changes and resolves templates, and keeps the built-in ones as the release has them."""

    def __init__(self, database: Database, registry: grpc.aio.Channel) -> None:
        self._database = database
        self._store: ResourceStore[Template] = ResourceStore(database, TEMPLATES)
        self._models = ModelServiceStub(registry)
        self._projects = ProjectServiceStub(registry)
        # What tasks were last created from: by the template as it was, and the overrides.
        self._resolved: dict[tuple[str, bytes], bytes] = {}

    async def install_built_in(self) -> None:
        """Bring the stored built-in templates to what this release has. Several replicas may do it at once.

        A user's template that has the name of a built-in one stays, and the built-in one is left out.
        """
        wanted = {template.name: template for template in built_in_templates()}
        kept = await self._stored_built_in()
        # In one transaction, as there are more than a thousand: each of its own would wait for the disk.
        async with self._database.transaction() as connection:
            for name, template in wanted.items():
                if name not in kept or _released(kept[name]) != _released(template):
                    await self._install(template, connection)
        for name in kept:
            if name not in wanted:
                await self._remove_outdated(name)

    async def _install(self, template: Template, connection: Connection) -> None:
        resource_id = template.name.removeprefix("templates/")
        try:
            await self._store.create(template, resource_id=resource_id, owner=OWNER, connection=connection)
        except LatheError as error:
            if error.code != grpc.StatusCode.ALREADY_EXISTS and error.reason != "NAME_RETIRED":
                raise
            if error.reason == "NAME_RETIRED" and await connection.fetchval(_BRING_BACK, template.name):
                await self._store.create(template, resource_id=resource_id, owner=OWNER, connection=connection)
                return
            stored = await self._store.find("name", template.name, connection=connection)
            if stored is not None and stored.built_in:
                await self._store.update(template, FieldMask(paths=CHANGEABLE), CHANGEABLE, connection=connection)
            else:
                _log.warning("built-in template left out", template=template.name, cause=error.message)

    async def _stored_built_in(self) -> dict[str, Template]:
        """Return all built-in templates that are stored, by name, whatever release brought them."""
        found: dict[str, Template] = {}
        query = ListQuery(page_size=MAX_PAGE_SIZE, filter="built_in = true", full=True)
        while True:
            page = ListTemplatesResponse().templates
            token = await self._store.list(query, page)
            found |= {template.name: template for template in page}
            if not token:
                return found
            query = replace(query, page_token=token)

    async def _remove_outdated(self, name: str) -> None:
        async def keep_the_name(connection: Connection, _template: Template) -> None:
            await connection.execute(_KEEP_FOR_BUILT_IN, name)

        try:
            await self._store.delete(name, on_delete=keep_the_name)
        except LatheError as error:
            if error.code != grpc.StatusCode.NOT_FOUND:  # another replica was faster
                raise

    async def create(self, request: CreateTemplateRequest) -> Template:
        """Store a user's template.

        Raises:
            LatheError: INVALID_ARGUMENT for an unsound template; ALREADY_EXISTS for a taken name.
        """
        template = Template()
        template.CopyFrom(request.template)
        template.built_in = False
        _check_sound(template)
        self._store.require_creation(template)  # who may not share it learns nothing of projects
        await self._require_projects(template.shared_with)
        return await self._store.create(
            template,
            resource_id=request.template_id,
            request_id=request.request_id,
            request=request,
            validate_only=request.validate_only,
        )

    async def get(self, name: str) -> Template:
        """Return a template; LatheError NOT_FOUND if there is none."""
        return await self._store.get(name)

    async def list(self, request: ListTemplatesRequest, entries: Entries[Template]) -> str:
        """Make one page and return the token of the next."""
        return await self._store.list(ListQuery.from_request(request), entries)

    async def update(self, request: UpdateTemplateRequest) -> Template:
        """Change the fields of the mask.

        Raises:
            LatheError: as `create`; NOT_FOUND; ABORTED for a stale etag; FAILED_PRECONDITION for a built-in one.
        """

        def validate(changed: Template) -> None:
            _refuse_built_in(changed)
            check(changed, inside="template", changed=request.update_mask)
            _check_sound(changed)

        if request.template.shared_with and names_field(request.update_mask, "shared_with"):
            before = await self._store.get(request.template.name)
            _refuse_built_in(before)
            if added := set(request.template.shared_with) - set(before.shared_with):
                require_role(before.project, Role.ADMIN)  # as above
                await self._require_projects(added)
        return await self._store.update(request.template, request.update_mask, CHANGEABLE, validate)

    async def _require_projects(self, names: Collection[str]) -> None:
        """Refuse to share with a project that does not exist: LatheError NOT_FOUND."""
        with acting_as(current_user()):  # who shares with a project need not be a member of it
            for name in sorted(set(names) - {EVERYBODY}):
                try:
                    await self._projects.GetProject(GetProjectRequest(name=name))
                except grpc.aio.AioRpcError as error:
                    raise from_rpc_error(error) from error

    async def delete(self, name: str, etag: str) -> None:
        """Delete a template; LatheError FAILED_PRECONDITION for a built-in one."""

        async def refuse(_connection: Connection, template: Template) -> None:
            _refuse_built_in(template)

        await self._store.delete(name, etag, on_delete=refuse)

    async def resolve(self, request: ResolveTemplateRequest) -> ResolvedTemplate:
        """Return the full specification of a task, with the source of each value.

        Raises:
            LatheError: NOT_FOUND; INVALID_ARGUMENT for overrides that name nothing or leave something open;
                FAILED_PRECONDITION if the version is of another format.
        """
        template = await self._store.get(request.name)
        version = await self._version(request.model_version)
        resolved = resolve(template, request.overrides, version)
        check(resolved.template, inside=RESOLVED)
        check_complete(resolved.template, version)
        return resolved

    async def resolve_for_task(self, request: ResolveTaskTemplateRequest) -> ResolvedTemplate:
        """Return the specification of a task without what its version says; LatheError as `resolve`."""
        if request.HasField("template"):
            resolved = resolve(request.template, request.overrides, None)
            check(resolved.template, inside=RESOLVED)
            check_template(resolved.template, RESOLVED)
            return resolved
        template = await self._store.get(request.name)
        # Templates change far less often than tasks are created from them.
        key = (template.etag, request.overrides.SerializeToString(deterministic=True))
        if (known := self._resolved.get(key)) is not None:
            return ResolvedTemplate.FromString(known)
        resolved = resolve(template, request.overrides, None)
        check(resolved.template, inside=RESOLVED)
        check_template(resolved.template, RESOLVED)
        if len(body := resolved.SerializeToString()) <= _LARGEST_KEPT and len(key[1]) <= _LARGEST_KEPT:
            self._resolved[key] = body
            if len(self._resolved) > _MOST_KEPT:
                del self._resolved[next(iter(self._resolved))]
        return resolved

    async def _version(self, name: str) -> ModelVersion | None:
        return await self._models.GetModelVersion(GetModelVersionRequest(name=name)) if name else None


def _refuse_built_in(template: Template) -> None:
    if template.built_in:
        raise failed_precondition(
            "BUILT_IN_TEMPLATE",
            f"'{template.name}' came with Lathe and stays as it is. Create a template of your own with its fields, or "
            "override them in a task.",
            subject=template.name,
        )


def _check_sound(template: Template) -> None:
    if not template.display_name.strip():
        raise invalid_argument("template.display_name", "the name is blank")
    check_template(template)


def _released(template: Template) -> dict[str, Any]:
    """Return what a release states of a template, by field, without what the service sets."""
    return {field.name: value for field, value in template.ListFields() if field.name not in _SET_BY_SERVICE}
