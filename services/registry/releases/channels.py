"""What can be done with channels, their releases aside."""

from __future__ import annotations

from lathe.registry.v1.dataset_service_pb2 import DATASET_STATE_READY, Dataset
from lathe.registry.v1.model_service_pb2 import Model
from lathe.registry.v1.release_service_pb2 import (
    Channel,
    CreateChannelRequest,
    ListChannelsRequest,
    UpdateChannelRequest,
)

from services.database.pool import Connection, Database
from services.platform.access import EVERYBODY
from services.platform.changes import names_field
from services.platform.errors import failed_precondition, missing_references, not_found
from services.platform.interceptors.validation import check
from services.registry import naming
from services.registry.kinds import CHANNELS, DATASETS, MODELS
from services.registry.releases.numbers import retire_numbers
from services.registry.releases.reconciler import Reconciler, mark_unsettled
from services.registry.releases.repository import ModelRepositories
from services.registry.releases.rules import check_rules
from services.resources.listing import Entries, ListQuery
from services.resources.scope import kept
from services.resources.store import ResourceStore

CHANGEABLE = ("display_name", "description", "labels", "rules")
_READ_WHERE_MODEL_IS = """
SELECT 1 FROM datasets d, models m WHERE d.name = $1 AND m.name = $2 AND d.readers && ARRAY[m.project, $3]
"""
_OUTPUT_ONLY = ("name", "uid", "current_release", "current_version", "repository_uri")


class Channels:
    """Creates, reads, changes and deletes channels."""

    def __init__(self, database: Database, repositories: ModelRepositories, reconciler: Reconciler) -> None:
        self._database = database
        self._repositories = repositories
        self._reconciler = reconciler
        self._models: ResourceStore[Model] = ResourceStore(database, MODELS)
        self._datasets: ResourceStore[Dataset] = ResourceStore(database, DATASETS)
        self._store: ResourceStore[Channel] = ResourceStore(database, CHANNELS)

    async def create(self, request: CreateChannelRequest) -> Channel:
        """Create a channel of a model.

        Raises:
            LatheError: NOT_FOUND for the model, and for the dataset of the rules (REFERENCE_NOT_FOUND); ALREADY_EXISTS
                for a taken id; INVALID_ARGUMENT for rules that nothing could keep.
        """
        if earlier := await self._store.first_made(request):
            return self._shown(earlier)
        channel = Channel()
        channel.CopyFrom(request.channel)
        for field in _OUTPUT_ONLY:
            channel.ClearField(field)  # type: ignore[arg-type]  # all of them are fields
        await self._check(channel, request.parent)
        async with self._database.transaction() as connection:
            # Against a deletion of the model at the same time.
            if not await kept(connection, MODELS.table, [request.parent]):
                raise not_found(MODELS.noun, request.parent)
            made = await self._store.create(
                channel,
                resource_id=request.channel_id,
                parent=request.parent,
                request_id=request.request_id,
                request=request,
                connection=connection,
            )
        return self._shown(made)

    async def get(self, name: str) -> Channel:
        """Return a channel; LatheError NOT_FOUND if there is none."""
        return self._shown(await self._store.get(name))

    async def page(self, request: ListChannelsRequest, entries: Entries[Channel]) -> str:
        """Make one page and return the token of the next; LatheError NOT_FOUND for a model that does not exist."""
        token = await self._store.list(ListQuery.from_request(request), entries)
        if not entries and request.parent != "models/-":
            await self._models.get(request.parent)
        for channel in entries:
            self._shown(channel)
        return token

    async def update(self, request: UpdateChannelRequest) -> Channel:
        """Change the fields of the mask. Releases that were made under other rules stay.

        Raises:
            LatheError: NOT_FOUND, also for the dataset of the rules (REFERENCE_NOT_FOUND); ABORTED for a stale etag;
                INVALID_ARGUMENT for a bad value or mask.
        """
        if names_field(request.update_mask, "rules"):
            check(request.channel.rules, inside="channel.rules")
            await self._check(request.channel, naming.channel_model(request.channel.name))

        def validate(channel: Channel) -> None:
            check(channel, inside="channel", changed=request.update_mask)
            check_rules(channel.rules)

        return self._shown(await self._store.update(request.channel, request.update_mask, CHANGEABLE, validate))

    async def delete(self, name: str, etag: str, *, force: bool) -> None:
        """Delete a channel, its history and its model repository.

        Raises:
            LatheError: NOT_FOUND; ABORTED for a stale etag; FAILED_PRECONDITION, reason CHANNEL_SERVES, while it serves
                a release and `force` is not set.
        """

        async def remove(connection: Connection, channel: Channel) -> None:
            if channel.current_release and not force:
                raise failed_precondition(
                    "CHANNEL_SERVES",
                    f"'{name}' serves {channel.current_version}. Set 'force' to delete it with its history and its "
                    "model repository.",
                    subject=name,
                )
            await retire_numbers(connection, channel)
            await mark_unsettled(connection, name)

        await self._store.delete(name, etag, on_delete=remove)
        await self._reconciler.settle(name)

    async def _check(self, channel: Channel, model: str) -> None:
        check_rules(channel.rules)
        if not (dataset := channel.rules.dataset):
            return
        found = await self._datasets.find("name", dataset)
        if found is None:
            raise not_found(DATASETS.noun, dataset)
        await self._models.require_change(model)  # who may not see it learns nothing of its project
        if not await self._database.fetchval(_READ_WHERE_MODEL_IS, dataset, model, EVERYBODY):
            # For the members of the model's project it does not exist.
            told = (
                f"'{dataset}' is of another project: members of the model's cannot evaluate on it. Share it with that "
                "project, or name another dataset."
            )
            raise missing_references([("channel.rules.dataset", told)])
        # The name of one that never was READY may be given to another.
        if found.state != DATASET_STATE_READY:
            raise failed_precondition("DATASET_NOT_READY", f"'{dataset}' is not READY; wait until it is.", dataset)

    def _shown(self, channel: Channel) -> Channel:
        """Set the fields that follow from the name and the settings, which the stored body does not have."""
        channel.repository_uri = self._repositories.uri(channel.name)
        return channel
