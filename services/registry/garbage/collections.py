"""Collections of garbage as operations: asked for, or begun when the last one is long ago."""

from __future__ import annotations

from datetime import timedelta

from lathe.registry.v1.storage_service_pb2 import CreateGarbageCollectionRequest, GarbageCollection
from lathe.type.v1.operation_pb2 import OPERATION_STATE_RUNNING, OperationState

from services.database.leases import Leases
from services.database.pool import Database
from services.operations.backlog import Backlog
from services.operations.operations import Operations
from services.platform.identity import acting_as
from services.platform.settings import Settings
from services.registry.garbage.collector import Collector
from services.resources.filters.fields import word_field
from services.resources.kind import ResourceKind

__all__ = ["KIND", "Collections"]

KIND = ResourceKind(
    GarbageCollection,
    table="garbage_collections",
    collection="garbageCollections",
    noun="garbage collection",
    columns={"state": lambda each: each.state},
    fields={"state": word_field(OperationState)},
)
KEPT = timedelta(days=30)
OWNER = "lathe"
"""Who owns the collections that nobody asked for."""
# In a new installation there is nothing yet.
_LATEST = """
    SELECT max(create_time) > now() - $1::interval FROM (
        SELECT create_time FROM garbage_collections WHERE owner = $2 UNION ALL SELECT create_time FROM installation
    ) AS known
"""
_FORGET = "DELETE FROM garbage_collections WHERE create_time < now() - $1::interval AND state <> $2"


class Collections:
    """Creates collections; the runner of `operations` does them."""

    def __init__(self, database: Database, collector: Collector, settings: Settings) -> None:
        backlog = Backlog(
            database, "garbage_collection_work", "collection", timedelta(seconds=settings.ack_wait_seconds)
        )
        self.operations = Operations(database, KIND, backlog, collector, max_attempts=settings.max_attempts)
        self._database = database
        self._leases = Leases(database)
        self._interval = timedelta(hours=settings.gc_interval_hours)

    async def create(self, request: CreateGarbageCollectionRequest) -> GarbageCollection:
        """Create a collection, once per request id."""
        if first := await self.operations.store.first_made(request):
            return await self.operations.get(first.name)
        wanted = request.garbage_collection
        asked = GarbageCollection(display_name=wanted.display_name, labels=wanted.labels, dry_run=wanted.dry_run)
        return await self.operations.create(request, asked)

    async def keep_up(self) -> None:
        """Begin a collection if the last one that began like this is an interval ago, and forget old ones."""
        await self._database.execute(_FORGET, KEPT, OPERATION_STATE_RUNNING)
        if not self._interval:
            return
        async with self._leases.attempt("next garbage collection") as lease:
            if lease is not None and not await self._database.fetchval(_LATEST, self._interval, OWNER):
                with acting_as(OWNER):
                    await self.create(CreateGarbageCollectionRequest())
