"""Approvals: who says that a version may be promoted in a channel."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.registry.v1.release_service_pb2 import (
    Approval,
    ApproveModelVersionRequest,
    Channel,
    ListApprovalsRequest,
)
from uuid_utils.compat import uuid7

from services.audit.entries import note
from services.database.pool import Connection, Database
from services.platform.access import is_visible
from services.platform.errors import failed_precondition, not_found, permission_denied
from services.platform.identity import current_user
from services.registry import naming
from services.registry.kinds import CHANNELS, VERSIONS
from services.registry.releases.rows import IN_SEEN_CHANNEL, project_of
from services.resources.filters.fields import TEXT, TIME
from services.resources.idempotency import claim_first, find_first
from services.resources.listing import Entries, Listing, ListQuery, list_page
from services.resources.scope import kept
from services.resources.store import ResourceStore

_NOUN = "approval"
_FIELDS = {"name": TEXT, "model_version": TEXT, "owner": TEXT, "create_time": TIME}
_LISTING = Listing("approvals", fields=_FIELDS, visible=IN_SEEN_CHANNEL)
_GET = "SELECT a.body, c.readers FROM approvals a JOIN channels c ON c.name = a.parent WHERE a.name = $1"
_MADE = "SELECT a.body, c.readers FROM approvals a JOIN channels c ON c.name = a.parent WHERE a.uid = $1"
_INSERT = """
INSERT INTO approvals (uid, name, parent, model_version, owner, create_time, body) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (parent, model_version, owner) DO NOTHING RETURNING uid
"""
_OF_USER = "SELECT body FROM approvals WHERE parent = $1 AND model_version = $2 AND owner = $3"
_APPROVED_BY = "SELECT owner FROM approvals WHERE parent = $1 AND model_version = $2 ORDER BY owner"


async def approved_by(connection: Connection, channel: str, version: str) -> list[str]:
    """Return who has approved a version for a channel."""
    return [row["owner"] for row in await connection.fetch(_APPROVED_BY, channel, version)]


class Approvals:
    """Gives, reads and takes back approvals."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._channels: ResourceStore[Channel] = ResourceStore(database, CHANNELS)
        self._versions: ResourceStore[ModelVersion] = ResourceStore(database, VERSIONS)

    async def approve(self, request: ApproveModelVersionRequest) -> Approval:
        """Approve a version for a channel, in the caller's name; return the approval that was given before, if any.

        Raises:
            LatheError: NOT_FOUND for the channel or the version; INVALID_ARGUMENT for a version of another model.
        """
        if request.request_id and (first := await find_first(self._database, request)) is not None:
            return await self._made(self._database, first)
        model = naming.channel_model(request.name)
        naming.require_version_of(model, request.model_version, "model_version", "channel")
        now, uid = datetime.now(UTC), uuid7()
        made = Approval(
            name=f"{request.name}/approvals/{uid}",
            uid=str(uid),
            model_version=request.model_version,
            note=request.note,
            owner=current_user(),
        )
        made.create_time.FromDatetime(now)
        await self._channels.require_change(request.name)
        async with self._database.transaction() as connection:
            # The version before the channel, as a deletion of the model takes them.
            for store, name in ((VERSIONS, request.model_version), (CHANNELS, request.name)):
                if not await kept(connection, store.table, [name]):
                    raise not_found(store.noun, name)
            values = (uid, made.name, request.name, request.model_version, made.owner, now, made.SerializeToString())
            if await connection.fetchval(_INSERT, *values) is None:
                body = await connection.fetchval(_OF_USER, request.name, request.model_version, made.owner)
                made = Approval.FromString(body)
            else:
                await note(connection, None, made, await project_of(connection, request.name))
            first = await claim_first(connection, request, UUID(made.uid))
            return made if first is None else await self._made(connection, first)

    async def get(self, name: str) -> Approval:
        """Return an approval; LatheError NOT_FOUND if there is none."""
        return await _find(self._database, name)

    async def page(self, request: ListApprovalsRequest, entries: Entries[Approval]) -> str:
        """Make one page of a channel's approvals, the newest first, and return the token of the next page.

        Raises:
            LatheError: NOT_FOUND for a channel that does not exist; INVALID_ARGUMENT for a bad page size, token or
                filter.
        """
        query = ListQuery.from_request(request)
        token = await list_page(
            self._database, _LISTING, query, entries, lambda approval, row: approval.MergeFromString(row["body"])
        )
        if not entries:
            await self._channels.get(request.parent)
        return token

    async def revoke(self, name: str) -> None:
        """Take an approval back.

        Raises:
            LatheError: NOT_FOUND; PERMISSION_DENIED if somebody else gave it.
        """
        async with self._database.transaction() as connection:
            # A promotion that counts on it holds the channel.
            channel = name.rsplit("/approvals/", 1)[0]
            if "\0" not in name:
                await connection.execute("SELECT 1 FROM channels WHERE name = $1 FOR KEY SHARE", channel)
            found = await _find(connection, name)
            await self._channels.require_change(channel, connection)
            if found.owner != current_user():
                raise permission_denied(f"'{name}' was given by {found.owner}, who alone can take it back.")
            await connection.execute("DELETE FROM approvals WHERE name = $1", name)
            await note(connection, found, None, await project_of(connection, channel))

    async def _made(self, reader: Connection | Database, uid: UUID) -> Approval:
        row = await reader.fetchrow(_MADE, uid)
        if row is None or not is_visible(row["readers"]):
            raise failed_precondition(
                "ALREADY_DELETED",
                "A request with this request_id made an approval, which has been taken back since. "
                "Use a new request_id to approve again.",
            )
        return Approval.FromString(row["body"])


async def _find(reader: Connection | Database, name: str) -> Approval:
    row = None if "\0" in name else await reader.fetchrow(_GET, name)
    if row is None or not is_visible(row["readers"]):
        raise not_found(_NOUN, name)
    return Approval.FromString(row["body"])
