"""What can be done with models: the names under which versions gather."""

from __future__ import annotations

from lathe.registry.v1.model_service_pb2 import CreateModelRequest, ListModelsRequest, Model, UpdateModelRequest

from services.database.pool import Connection, Database
from services.platform.errors import failed_precondition
from services.platform.interceptors.validation import check
from services.registry.kinds import MODELS
from services.registry.removal import remove_versions
from services.resources.listing import Entries, ListQuery
from services.resources.store import ResourceStore

CHANGEABLE = ("display_name", "description", "labels", "shared_with")
_OUTPUT_ONLY = ("name", "uid", "version_count", "latest_version")


class Models:
    """Creates, reads, changes and deletes models."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._store: ResourceStore[Model] = ResourceStore(database, MODELS)

    async def create(self, request: CreateModelRequest) -> Model:
        """Create a model; LatheError ALREADY_EXISTS if its id is taken."""
        model = Model()
        model.CopyFrom(request.model)
        for field in _OUTPUT_ONLY:
            model.ClearField(field)  # type: ignore[arg-type]  # all of them are fields
        made = await self._store.create(
            model, resource_id=request.model_id, request_id=request.request_id, request=request
        )
        return await self.get(made.name)

    async def get(self, name: str) -> Model:
        """Return a model; LatheError NOT_FOUND if there is none."""
        return await self._store.get(name)

    async def page(self, request: ListModelsRequest, entries: Entries[Model]) -> str:
        """Make one page and return the token of the next."""
        return await self._store.list(ListQuery.from_request(request), entries)

    async def update(self, request: UpdateModelRequest) -> Model:
        """Change the fields of the mask.

        Raises:
            LatheError: NOT_FOUND; ABORTED for a stale etag; INVALID_ARGUMENT for a bad value or mask.
        """
        mask = request.update_mask

        def validate(model: Model) -> None:
            check(model, inside="model", changed=mask)

        await self._store.update(request.model, mask, CHANGEABLE, validate)
        return await self.get(request.model.name)

    async def delete(self, name: str, etag: str, *, force: bool) -> None:
        """Delete a model with its channels that never served, and with `force` its versions.

        Raises:
            LatheError: NOT_FOUND; ABORTED for a stale etag; FAILED_PRECONDITION if it has versions and `force` is
                not set (HAS_VERSIONS), or if a task or a channel uses one of them (IN_USE).
        """

        async def remove(connection: Connection, model: Model) -> None:
            rows = await connection.fetch(
                "SELECT name FROM model_versions WHERE parent = $1 ORDER BY name FOR UPDATE", model.name
            )
            if rows and not force:
                raise failed_precondition(
                    "HAS_VERSIONS",
                    f"'{model.name}' has {len(rows)} versions. Delete them first, or set 'force' to delete all.",
                    subject=model.name,
                )
            await connection.execute("DELETE FROM aliases WHERE parent = $1", model.name)
            await remove_versions(connection, [row["name"] for row in rows])
            # The rest serves nothing: a version that was ever released is in use.
            await connection.execute("DELETE FROM channels WHERE parent = $1", model.name)

        await self._store.delete(name, etag, on_delete=remove)
