"""What can be done with aliases: names that move from version to version of a model."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lathe.registry.v1.alias_service_pb2 import Alias, CreateAliasRequest, ListAliasesRequest, UpdateAliasRequest
from lathe.registry.v1.model_service_pb2 import Model

from services.database.pool import Connection, Database
from services.platform.errors import LatheError, not_found
from services.platform.interceptors.validation import check
from services.registry import naming
from services.registry.kinds import ALIASES, MODELS, VERSIONS
from services.resources.listing import Entries, ListQuery
from services.resources.scope import kept
from services.resources.store import ResourceStore

CHANGEABLE = ("model_version", "display_name", "description", "labels")
_FIELD = "alias.model_version"


class Aliases:
    """Creates, reads, moves and deletes aliases."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._models: ResourceStore[Model] = ResourceStore(database, MODELS)
        self._store: ResourceStore[Alias] = ResourceStore(database, ALIASES)

    async def create(self, request: CreateAliasRequest) -> Alias:
        """Create an alias.

        Raises:
            LatheError: NOT_FOUND for the model, or for the version (REFERENCE_NOT_FOUND); ALREADY_EXISTS for a taken
                id; INVALID_ARGUMENT for a version of another model.
        """
        if earlier := await self._store.first_made(request):
            return earlier
        return await self._create(request)

    async def get(self, name: str) -> Alias:
        """Return an alias; LatheError NOT_FOUND if there is none."""
        return await self._store.get(name)

    async def page(self, request: ListAliasesRequest, entries: Entries[Alias]) -> str:
        """Make one page and return the token of the next; LatheError NOT_FOUND for a model that does not exist."""
        token = await self._store.list(ListQuery.from_request(request), entries)
        if not entries and request.parent != "models/-":
            await self._models.get(request.parent)
        return token

    async def update(self, request: UpdateAliasRequest) -> Alias:
        """Change the fields of the mask; with `allow_missing`, create an alias that does not exist.

        Raises:
            LatheError: NOT_FOUND; ABORTED for a stale etag; INVALID_ARGUMENT for a bad value or mask, as in `create`.
        """
        wanted = request.alias

        def validate(alias: Alias) -> None:
            alias.display_name = alias.display_name or naming.last_part(alias.name)
            check(alias, inside="alias", changed=request.update_mask)

        async with self._database.transaction() as connection:
            missing = await self._store.find("name", wanted.name, connection=connection) is None
            if not missing:
                if "model_version" in request.update_mask.paths or "*" in request.update_mask.paths:
                    await _require_version(connection, naming.alias_model(wanted.name), wanted.model_version)
                return await self._store.update(
                    wanted, request.update_mask, CHANGEABLE, validate, connection=connection
                )
        if not request.allow_missing or wanted.etag:
            raise not_found(ALIASES.noun, wanted.name)
        model, _, last = wanted.name.rpartition("/aliases/")
        created = CreateAliasRequest(parent=model, alias_id=last, alias=wanted)
        check(created)
        try:
            return await self._create(created)
        except LatheError as error:
            # Two at once that set an alias for the first time: the later one moves it.
            if error.reason != "ALREADY_EXISTS":
                raise
            return await self.update(request)

    async def delete(self, name: str, etag: str) -> None:
        """Delete an alias; LatheError NOT_FOUND, or ABORTED for a stale etag."""
        await self._store.delete(name, etag)

    async def look_up(self, aliases: Collection[str]) -> Mapping[str, str]:
        """Return the versions that aliases stand for, by alias, without those that do not exist."""
        found = await self._store.get_many(aliases)
        return {name: alias.model_version for name, alias in found.items()}

    async def _create(self, request: CreateAliasRequest) -> Alias:
        alias = Alias()
        alias.CopyFrom(request.alias)
        alias.display_name = alias.display_name or request.alias_id
        async with self._database.transaction() as connection:
            if not await kept(connection, "models", [request.parent]):
                raise not_found(MODELS.noun, request.parent)
            await _require_version(connection, request.parent, alias.model_version)
            return await self._store.create(
                alias,
                resource_id=request.alias_id,
                parent=request.parent,
                request_id=request.request_id,
                request=request,
                connection=connection,
            )


async def _require_version(connection: Connection, model: str, version: str) -> None:
    """Keep a version from being deleted until the transaction ends; LatheError if there is none."""
    naming.require_version_of(model, version, _FIELD, "alias")
    if not await kept(connection, "model_versions", [version]):
        raise not_found(VERSIONS.noun, version)
