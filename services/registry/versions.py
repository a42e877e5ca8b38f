"""Versions of models: everything but their creation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import timedelta

import grpc
from google.protobuf.duration_pb2 import Duration
from lathe.registry.v1.model_service_pb2 import (
    LINEAGE_KIND_TEMPLATE,
    LineageGraph,
    LineageNode,
    ListModelVersionsRequest,
    Model,
    ModelDescription,
    ModelDiff,
    ModelVersion,
    UpdateModelVersionRequest,
)
from lathe.template.v1.template_service_pb2 import GetTemplateRequest
from lathe.template.v1.template_service_pb2_grpc import TemplateServiceStub
from lathe.type.v1 import batch_pb2

from services.database.pool import Connection, Database
from services.platform.access import is_visible, readable
from services.platform.durations import whole_seconds
from services.platform.errors import not_found
from services.platform.interceptors.validation import check
from services.registry import descriptions, diff, holds, lineage, naming
from services.registry.kinds import MODELS, VERSIONS
from services.registry.removal import remove_versions
from services.resources.batches import in_batch
from services.resources.listing import Entries, ListQuery
from services.resources.store import ResourceStore

CHANGEABLE = ("display_name", "description", "labels")
DEFAULT_HOLD_SECONDS = 24 * 3600
_TEMPLATES_AT_ONCE = 8
# A lineage is answered without them if their service does not answer.
_TEMPLATE_SECONDS = 2.0


class Versions:
    """Reads, changes, holds and deletes versions."""

    def __init__(self, database: Database, templates: grpc.aio.Channel) -> None:
        """Keep versions in `database`; `templates` leads to the template service."""
        self._database = database
        self._templates = TemplateServiceStub(templates)
        self._models: ResourceStore[Model] = ResourceStore(database, MODELS)
        self._store: ResourceStore[ModelVersion] = ResourceStore(database, VERSIONS)

    async def get(self, name: str) -> ModelVersion:
        """Return a version; LatheError NOT_FOUND if there is none."""
        version = await self._store.get(name)
        await self._leave_out([version])
        return version

    async def get_many(self, names: Sequence[str], *, full: bool) -> list[ModelVersion]:
        """Return versions in the order of their names, with files and parity if `full`; LatheError NOT_FOUND."""
        found = await self._store.get_many(names, full=full)
        if missing := next((name for name in names if name not in found), None):
            raise not_found(VERSIONS.noun, missing)
        versions = [found[name] for name in names]
        await self._leave_out(versions)
        return versions

    async def page(self, request: ListModelVersionsRequest, entries: Entries[ModelVersion]) -> str:
        """Make one page and return the token of the next; LatheError NOT_FOUND for a model that does not exist."""
        token = await self._store.list(ListQuery.from_request(request), entries)
        if not entries and request.parent != "models/-":
            await self._models.get(request.parent)
        await self._leave_out(entries)
        return token

    async def _leave_out(self, versions: Iterable[ModelVersion]) -> None:
        """Take out the sources and architectures that the caller may not see, as a lineage does."""
        readers = readable()
        used = {} if readers is None else {version.name: lineage.used_elsewhere(version) for version in versions}
        if not any(used.values()):
            return
        async with self._database.connection() as connection:
            seen = await lineage.visible(connection, {name for names in used.values() for name in names})
        for version in versions:
            lineage.leave_out(version, used[version.name] - seen)

    async def update(self, request: UpdateModelVersionRequest) -> ModelVersion:
        """Change the fields of the mask.

        Raises:
            LatheError: NOT_FOUND; ABORTED for a stale etag; INVALID_ARGUMENT for a bad value or mask.
        """
        wanted = request.model_version
        model = await self._models.find("name", naming.model_of(wanted.name))

        def validate(version: ModelVersion) -> None:
            if model and not version.display_name:
                version.display_name = naming.default_name(model.display_name, version.name.rsplit("/", 1)[1])
            check(version, inside="model_version", changed=request.update_mask)

        return await self._store.update(wanted, request.update_mask, CHANGEABLE, validate)

    async def delete(self, name: str, etag: str) -> None:
        """Delete a version.

        Raises:
            LatheError: NOT_FOUND; ABORTED for a stale etag; FAILED_PRECONDITION, reason IN_USE, while it is held or
                another version was made from it.
        """

        async def remove(connection: Connection, version: ModelVersion) -> None:
            await remove_versions(connection, [version.name])

        model = naming.model_of(name)
        async with self._database.transaction() as connection:
            await self._store.get(name, connection=connection)
            # The model's row first, as everything else that changes versions locks it: two at once take turns.
            await connection.execute("UPDATE models SET version_count = version_count - 1 WHERE name = $1", model)
            await self._store.delete(name, etag, on_delete=remove, connection=connection)

    async def delete_many(
        self, names: Sequence[str], *, allow_missing: bool
    ) -> tuple[list[str], list[batch_pb2.BatchError]]:
        """Delete what can be deleted, the newest first, so that what was made of another goes before it."""
        found = await self._store.get_many(names)
        newest_first = sorted(names, key=lambda name: found[name].uid if name in found else "", reverse=True)
        return await in_batch(newest_first, lambda name: self.delete(name, ""), allow_missing=allow_missing)

    async def describe(self, name: str) -> ModelDescription:
        """Return what a version contains; LatheError NOT_FOUND if there is none."""
        readers_of = "SELECT d.body, v.readers FROM descriptions d JOIN model_versions v ON v.name = d.version"
        row = None if "\0" in name else await self._database.fetchrow(f"{readers_of} WHERE d.version = $1", name)
        if row is None or not is_visible(row["readers"]):
            raise not_found(VERSIONS.noun, name)
        return descriptions.complete(ModelDescription.FromString(row["body"]), name)

    async def compare(self, before: str, after: str) -> ModelDiff:
        """Return how two versions differ; LatheError NOT_FOUND if one does not exist."""
        facts = [diff.facts(await self.get(name), await self.describe(name)) for name in (before, after)]
        return ModelDiff(before=before, after=after, differences=diff.differences(*facts))

    async def lineage(self, name: str, max_depth: int) -> LineageGraph:
        """Return what a version was made from and what was made from it; LatheError NOT_FOUND if there is none."""
        await self.get(name)
        async with self._database.connection() as connection:
            graph = await lineage.graph(connection, name, max_depth)
        # Only templates, which are another service's, may be deleted before what was made from them.
        templates = [node for node in graph.nodes if node.kind == LINEAGE_KIND_TEMPLATE]
        slots = asyncio.Semaphore(_TEMPLATES_AT_ONCE)

        async def mark(node: LineageNode) -> None:
            async with slots:
                node.deleted = await self._is_deleted(node.name)

        await asyncio.gather(*(mark(node) for node in templates))
        return graph

    async def _is_deleted(self, template: str) -> bool:
        try:
            await self._templates.GetTemplate(GetTemplateRequest(name=template), timeout=_TEMPLATE_SECONDS)
        except grpc.aio.AioRpcError as error:
            return error.code() is grpc.StatusCode.NOT_FOUND
        return False

    async def hold(self, name: str, holder: str, ttl: Duration) -> None:
        """Keep a version from being deleted, for a day if `ttl` is not set; LatheError NOT_FOUND if there is none."""
        await holds.hold(self._database, name, holder, timedelta(seconds=whole_seconds(ttl) or DEFAULT_HOLD_SECONDS))

    async def unhold(self, name: str, holder: str) -> None:
        """End a hold, if there is one."""
        await holds.unhold(self._database, name, holder)

    async def renew_holds(self, holders: Sequence[str], ttl: Duration) -> None:
        """Let versions that these hold be held for so long from now; what lasts longer is left as it is."""
        await holds.renew(self._database, holders, timedelta(seconds=whole_seconds(ttl)))

    async def forget_expired_holds(self) -> None:
        """Remove holds that have ended by themselves."""
        await holds.forget_expired(self._database)
