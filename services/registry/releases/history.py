"""Promotions and roll backs: which package of a model serves, since when, and who decided it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.registry.v1.release_service_pb2 import (
    RELEASE_KIND_PROMOTION,
    RELEASE_KIND_ROLLBACK,
    Channel,
    ListReleasesRequest,
    PromoteModelVersionRequest,
    Release,
    RollBackRequest,
)
from uuid_utils.compat import uuid7

from services.database.leases import Lease
from services.database.pool import Connection, Database, Record
from services.platform.changes import check_etag
from services.platform.errors import aborted, invalid_argument, unavailable
from services.platform.identity import current_user
from services.registry import holds, naming
from services.registry.kinds import CHANNELS, VERSIONS
from services.registry.releases.approvals import approved_by
from services.registry.releases.gate import Gate
from services.registry.releases.layout import lay_out_release, read_manifest
from services.registry.releases.news import tell_release
from services.registry.releases.numbers import next_number
from services.registry.releases.reconciler import Reconciler, mark_unsettled, repository_lease
from services.registry.releases.repository import ModelRepositories
from services.registry.releases.rollback import restored
from services.registry.releases.rows import LISTING, find_release, insert_release, project_of, read_into, release_made
from services.registry.releases.rules import counted
from services.resources.idempotency import claim_first, find_first, made_once
from services.resources.listing import Entries, ListQuery, list_page
from services.resources.store import ResourceStore
from services.storage import ContentStore

# A hold that outlives its process ends by itself.
_HOLD = timedelta(hours=1)

Draft = Callable[[Connection, Channel], Awaitable[Release]]
"""Makes the release that a channel should serve next; this process holds the channel's repository meanwhile."""


@dataclass(frozen=True)
class _Plan:
    """A release before it is written, with the channel and the version that the decision is based on."""

    channel: Channel
    version: ModelVersion
    release: Release


class Releases:
    """Makes and reads releases. Releases of one channel take turns; their numbers have no gaps."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        repositories: ModelRepositories,
        reconciler: Reconciler,
        gate: Gate,
    ) -> None:
        self._database = database
        self._content = content
        self._repositories = repositories
        self._reconciler = reconciler
        self._gate = gate
        self._channels: ResourceStore[Channel] = ResourceStore(database, CHANNELS)
        self._versions: ResourceStore[ModelVersion] = ResourceStore(database, VERSIONS)
        self._leases = reconciler.leases

    async def promote(self, request: PromoteModelVersionRequest) -> Release:
        """Make a package version a channel's current release.

        Raises:
            LatheError: NOT_FOUND for the channel or the version; ABORTED for a stale etag, or a channel that changed
                meanwhile; INVALID_ARGUMENT for a version of another model or a
                waiver of a component that it does not have;
                FAILED_PRECONDITION if the version is not a package (NOT_A_PACKAGE), Triton cannot serve it
                (NOT_SERVABLE), or a rule is broken (PROMOTION_REFUSED, a violation per rule); UNAVAILABLE if the
                rules need an evaluation and the evaluator does not answer.
        """
        model = naming.channel_model(request.name)
        naming.require_version_of(model, request.model_version, "model_version", "channel")

        async def draft(_connection: Connection, _channel: Channel) -> Release:
            return Release(
                kind=RELEASE_KIND_PROMOTION,
                model_version=request.model_version,
                evaluation_task=request.evaluation_task,
                note=request.note,
                parity_waivers=request.parity_waivers,
            )

        return await self._make(request, draft)

    async def roll_back(self, request: RollBackRequest) -> Release:
        """Make the version of an earlier release current again: of the named one, or of the one before the current one.

        Releases that were left by a roll back are skipped, so that a second roll back goes further back.

        Raises:
            LatheError: NOT_FOUND for the channel or the release; ABORTED for a stale etag; INVALID_ARGUMENT for a
                release of another channel or the one that serves; FAILED_PRECONDITION, reason NO_EARLIER_RELEASE, if
                none is named and no other version ever served.
        """
        if request.release and naming.channel_of(request.release) != request.name:
            raise invalid_argument("release", f"'{request.release}' is not a release of {request.name}.")

        async def draft(connection: Connection, channel: Channel) -> Release:
            if request.release and request.release == channel.current_release:
                raise invalid_argument("release", f"'{request.release}' is already serving; name an earlier one.")
            earlier = await restored(connection, channel, request.release)
            return Release(
                kind=RELEASE_KIND_ROLLBACK,
                model_version=earlier.model_version,
                evaluation_task=earlier.evaluation_task,
                note=request.note,
                restored_release=earlier.name,
            )

        return await self._make(request, draft)

    async def get(self, name: str) -> Release:
        """Return a release; LatheError NOT_FOUND if there is none."""
        return self._shown(await find_release(self._database, name))

    async def page(self, request: ListReleasesRequest, entries: Entries[Release]) -> str:
        """Make one page of a channel's history, the newest first, and return the token of the next page.

        Raises:
            LatheError: NOT_FOUND for a channel that does not exist; INVALID_ARGUMENT for a bad page size or token.
        """

        def show(release: Release, row: Record) -> None:
            read_into(release, row)
            self._shown(release)
            if not query.full:
                release.ClearField("files")

        query = ListQuery.from_request(request)
        token = await list_page(self._database, LISTING, query, entries, show)
        if not entries:
            await self._channels.get(request.parent)
        return token

    async def _make(self, request: PromoteModelVersionRequest | RollBackRequest, draft: Draft) -> Release:
        channel = request.name

        async def find() -> Release | None:
            first = await find_first(self._database, request)
            return None if first is None else await release_made(self._database, first)

        async def make() -> Release:
            await self._channels.require_change(channel)
            async with self._leases.hold(repository_lease(channel)) as lease:
                plan = await self._plan(request, draft)
                # The hold keeps the files while they are copied; it ends by itself if this process dies.
                await holds.hold(self._database, plan.version.name, channel, _HOLD)
                try:
                    await self._lay_out(plan)
                    return await self._commit(lease, plan, request)
                finally:
                    await asyncio.shield(holds.unhold(self._database, plan.version.name, channel))

        made = await made_once(self._leases, request, find, make)
        await self._publish(channel, made)
        return self._shown(made)

    async def _plan(self, request: PromoteModelVersionRequest | RollBackRequest, draft: Draft) -> _Plan:
        """Decide on the release. Nothing is written, and no connection is held while other services are asked."""
        name = request.name
        async with self._database.connection() as connection:
            channel = await self._channels.get(name, connection=connection)
            check_etag(request.etag, channel.etag, name)
            release = await draft(connection, channel)
            approvals = await approved_by(connection, name, release.model_version)
            version = await self._versions.get(release.model_version, connection=connection)
            number = await next_number(connection, channel)
            project = await project_of(connection, name)
        manifest = await read_manifest(self._content, version)
        release.owner = current_user()
        if release.kind == RELEASE_KIND_PROMOTION:
            components = [component.name for component in manifest.components]
            release.checks.extend(await self._gate.check(channel, version, components, release, approvals, project))
            release.approvers.extend(counted(channel.rules, release.owner, approvals))
        release.name, release.uid = naming.release_name(name, number), str(uuid7())
        release.previous_release = channel.current_release
        model = naming.last_part(naming.channel_model(name))
        release.files.extend(await lay_out_release(self._content, version, manifest, model, number))
        return _Plan(channel, version, release)

    async def _lay_out(self, plan: _Plan) -> None:
        # The mark has to stay if this is interrupted.
        await mark_unsettled(self._database, plan.channel.name)
        await self._repositories.copy(plan.channel.name, plan.release.files, missing_only=False)

    async def _commit(self, lease: Lease, plan: _Plan, request: Any) -> Release:
        """Write the release if the channel is still as it was when the release was decided on."""
        release, name = plan.release, plan.channel.name
        release.create_time.FromDatetime(datetime.now(UTC))

        def serve(stored: Channel) -> None:
            stored.current_release, stored.current_version = release.name, plan.version.name

        async with self._database.transaction() as connection:
            await lease.confirm(connection)
            first = await claim_first(connection, request, UUID(release.uid))
            if first is not None:  # a repeat overtook this one
                return await release_made(connection, first)
            # The model's row before the channel's, as a deletion of the model takes them.
            await connection.execute("SELECT 1 FROM models WHERE name = $1 FOR KEY SHARE", naming.channel_model(name))
            channel = await self._channels.get(name, for_update=True, connection=connection)
            check_etag(request.etag, channel.etag, name)
            approvals = await approved_by(connection, name, plan.version.name)
            same = (channel.uid, channel.rules) == (plan.channel.uid, plan.channel.rules)
            if not same or not set(release.approvers).issubset(approvals):
                raise aborted(
                    "CHANNEL_CHANGED",
                    f"The rules of '{name}' were changed, or an approval was taken back, while '{plan.version.name}' "
                    "was being released. Nothing was released; try again.",
                )
            await insert_release(connection, release)
            await tell_release(connection, self._shown(release))
            await self._channels.modify(name, serve, connection=connection)
        return release

    async def _publish(self, channel: str, release: Release) -> None:
        try:
            await self._reconciler.settle(channel)
        except Exception as error:  # the release exists in any case, and the caller has to know
            raise unavailable(
                "the object store",
                f"'{release.name}' is recorded, but the model repository could not be switched to it yet. That is "
                "tried again until it is done; a repeat with the same request_id tries it at once.",
            ) from error

    def _shown(self, release: Release) -> Release:
        # The stored body does not have what follows from the name and the settings.
        release.repository_uri = self._repositories.uri(naming.channel_of(release.name))
        return release
