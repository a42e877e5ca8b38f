"""Promotions and roll backs: which package of a model serves, since when, by whose hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.message import Message
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.registry.v1.release_service_pb2 import (
    PROMOTION,
    ROLLBACK,
    Channel,
    ListReleasesRequest,
    PromoteModelVersionRequest,
    Release,
    RollBackRequest,
)
from uuid_utils.compat import uuid7

from services.common.database import Connection, Database
from services.common.errors import failed_precondition, invalid_argument, not_found, unavailable
from services.common.idempotency import claim_request, fingerprint
from services.common.identity import current_user
from services.common.listing import Listing, ListQuery, list_page
from services.common.resources import ResourceStore
from services.common.storage import ContentStore
from services.registry import naming
from services.registry.kinds import CHANNELS, VERSIONS
from services.registry.releases.gate import Gate
from services.registry.releases.layout import lay_out_release, read_manifest
from services.registry.releases.repository import ModelRepositories
from services.registry.releases.settling import Settling, lock_repository, mark_unsettled

# Each keeps a connection of the pool for as long as the store copies.
_AT_ONCE = 3
_LISTING = Listing("releases", order_fields={"number": int}, default_order="number desc")
_INSERT = "INSERT INTO releases (uid, name, parent, number, model_version, body) VALUES ($1, $2, $3, $4, $5, $6)"
# The newest one of another version than the one that serves.
_BEFORE = """
SELECT body FROM releases WHERE parent = $1 AND model_version <> $2 ORDER BY number DESC LIMIT 1
"""

Draft = Callable[[Connection, Channel], Awaitable[Release]]
"""Says what is to serve in a channel that is locked."""


class Releases:
    """Makes and reads releases. Those of a channel take turns; their numbers have no gaps."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        repositories: ModelRepositories,
        settling: Settling,
        gate: Gate,
    ) -> None:
        self._database = database
        self._content = content
        self._repositories = repositories
        self._settling = settling
        self._gate = gate
        self._channels: ResourceStore[Channel] = ResourceStore(database, CHANNELS)
        self._slots = asyncio.Semaphore(_AT_ONCE)

    async def promote(self, request: PromoteModelVersionRequest) -> Release:
        """Make a package version a channel's current release.

        Raises:
            LatheError: NOT_FOUND for the channel or the version; INVALID_ARGUMENT for a version of another model or a
                waiver of a component that it does not have;
                FAILED_PRECONDITION where the version is no package (NOT_A_PACKAGE), Triton cannot serve it
                (NOT_SERVABLE), or a rule is broken (PROMOTION_REFUSED, a violation per rule); UNAVAILABLE where the
                rules ask for an evaluation and the evaluator does not answer.
        """
        model = naming.channel_model(request.name)
        if naming.model_of(request.model_version) != model:
            raise invalid_argument(
                "model_version", f"'{request.model_version}' is no version of {model}, whose channel this is."
            )

        async def draft(_connection: Connection, _channel: Channel) -> Release:
            return Release(
                kind=PROMOTION,
                model_version=request.model_version,
                evaluation_task=request.evaluation_task,
                note=request.note,
                parity_waivers=request.parity_waivers,
            )

        return await self._make("PromoteModelVersion", request, request.name, request.request_id, draft)

    async def roll_back(self, request: RollBackRequest) -> Release:
        """Make an earlier release's version current again.

        Raises:
            LatheError: NOT_FOUND for the channel or the release; INVALID_ARGUMENT for a release of another channel or
                the one that serves; FAILED_PRECONDITION, reason NO_EARLIER_RELEASE, where none is named and no other
                version ever served.
        """
        if request.release and naming.channel_of(request.release) != request.name:
            raise invalid_argument("release", f"'{request.release}' is no release of {request.name}.")

        async def draft(connection: Connection, channel: Channel) -> Release:
            if request.release and request.release == channel.current_release:
                raise invalid_argument("release", f"'{request.release}' is the one that serves; name an earlier one.")
            restored = await _restored(connection, channel, request.release)
            return Release(
                kind=ROLLBACK,
                model_version=restored.model_version,
                evaluation_task=restored.evaluation_task,
                note=request.note,
                restored_release=restored.name,
            )

        return await self._make("RollBack", request, request.name, request.request_id, draft)

    async def get(self, name: str) -> Release:
        """Return a release; LatheError NOT_FOUND where there is none."""
        async with self._database.connection() as connection:
            return self._shown(await _find(connection, name))

    async def page(self, request: ListReleasesRequest) -> tuple[list[Release], str]:
        """Return one page of a channel's history, the newest first, and the token of the next page.

        Raises:
            LatheError: NOT_FOUND for a channel that does not exist; INVALID_ARGUMENT for a bad page size or token.
        """
        query = ListQuery(page_size=request.page_size, page_token=request.page_token, parent=request.parent)
        releases, token = await list_page(
            self._database, _LISTING, query, lambda row: self._shown(Release.FromString(row["body"]))
        )
        if not releases:
            await self._channels.get(request.parent)
        return releases, token

    async def _make(self, method: str, request: Message, channel: str, request_id: str, draft: Draft) -> Release:
        async with self._slots:
            async with self._database.transaction() as connection:
                uid = uuid7()
                made = await _made_earlier(connection, method, request, request_id, uid)
                if made is None:
                    made = await self._write(connection, channel, uid, draft)
            await self._publish(channel, made)
        return self._shown(made)

    async def _write(self, connection: Connection, name: str, uid: UUID, draft: Draft) -> Release:
        await lock_repository(connection, name)
        # The model's row before the channel's, as a deletion of the model takes them.
        await connection.execute("SELECT 1 FROM models WHERE name = $1 FOR KEY SHARE", naming.channel_model(name))
        channel = await self._channels.get(name, for_update=True, connection=connection)
        release = await draft(connection, channel)
        version = await _keep(connection, release.model_version)
        manifest = await read_manifest(self._content, version)
        if release.kind == PROMOTION:
            components = [component.name for component in manifest.components]
            release.checks.extend(await self._gate.check(channel, version, components, release))
        number = naming.release_number(channel.current_release) + 1
        release.name, release.uid, release.owner = naming.release_name(name, number), str(uid), current_user()
        release.create_time.FromDatetime(datetime.now(UTC))
        release.previous_release = channel.current_release
        model = naming.last_part(naming.channel_model(name))
        release.files.extend(await lay_out_release(self._content, version, manifest, model, number))
        # In a transaction of its own: the mark has to stay where this one is broken off.
        await mark_unsettled(self._database, name)
        await self._repositories.copy(name, release.files, missing_only=False)
        await connection.execute(_INSERT, uid, release.name, name, number, version.name, release.SerializeToString())

        def serve(stored: Channel) -> None:
            stored.current_release, stored.current_version = release.name, version.name

        await self._channels.modify(name, serve, connection=connection)
        return release

    async def _publish(self, channel: str, release: Release) -> None:
        try:
            await self._settling.settle(channel)
        except Exception as error:  # whatever it was, the release stands, and the caller has to know
            raise unavailable(
                "the object store",
                f"'{release.name}' is recorded, but the model repository could not be switched to it yet. That is "
                "tried again until it is done; a repeat with the same request_id tries it at once.",
            ) from error

    def _shown(self, release: Release) -> Release:
        """Set what follows from the name and the settings: it is not in the body."""
        release.repository_uri = self._repositories.uri(naming.channel_of(release.name))
        return release


async def _made_earlier(
    connection: Connection, method: str, request: Message, request_id: str, uid: UUID
) -> Release | None:
    """Return what the first request with this id made, or None where this is the first."""
    if not request_id:
        return None
    earlier = await claim_request(
        connection,
        owner=current_user(),
        request_id=request_id,
        method=method,
        fingerprint=fingerprint(request),
        resource=uid,
    )
    if earlier is None:
        return None
    body = await connection.fetchval("SELECT body FROM releases WHERE uid = $1", earlier)
    if body is None:
        raise failed_precondition(
            "ALREADY_DELETED",
            "A request with this request_id made a release, whose channel has been deleted since. "
            "Use a new request_id to make another one.",
        )
    return Release.FromString(body)


async def _keep(connection: Connection, version: str) -> ModelVersion:
    """Return a version, and keep it from being deleted until the transaction ends."""
    body = None
    if "\0" not in version:
        body = await connection.fetchval(
            "SELECT body || detail FROM model_versions WHERE name = $1 FOR KEY SHARE", version
        )
    if body is None:
        raise not_found(VERSIONS.noun, version)
    return VERSIONS.parse(body)


async def _restored(connection: Connection, channel: Channel, named: str) -> Release:
    """Return the release to go back to: the one that is named, else the newest one of another version."""
    if named:
        return await _find(connection, named)
    body = await connection.fetchval(_BEFORE, channel.name, channel.current_version)
    if body is None:
        raise failed_precondition(
            "NO_EARLIER_RELEASE",
            f"No other version served in '{channel.name}' before, so that there is nothing to go back to.",
            subject=channel.name,
        )
    return Release.FromString(body)


async def _find(connection: Connection, name: str) -> Release:
    body = None
    if "\0" not in name:
        body = await connection.fetchval("SELECT body FROM releases WHERE name = $1", name)
    if body is None:
        raise not_found("release", name)
    return Release.FromString(body)
