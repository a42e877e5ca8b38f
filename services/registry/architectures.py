"""Architectures: creating, reading, changing, deleting them."""

from __future__ import annotations

import asyncio
import hashlib

from lathe.registry.v1.architecture_service_pb2 import (
    CERTIFICATION_CERTIFIED,
    CERTIFICATION_UNCERTIFIED,
    Architecture,
    CreateArchitectureRequest,
    ListArchitecturesRequest,
    UpdateArchitectureRequest,
)
from lathe.registry.v1.model_service_pb2 import Lineage
from lathe.type.v1.digest_pb2 import Digest

from services.database.leases import Leases
from services.database.pool import Connection, Database
from services.platform.changes import names_field
from services.platform.errors import failed_precondition
from services.platform.interceptors.validation import check
from services.registry import architecture_rules, lineage
from services.registry.blobs import Blobs, add_uses, drop_uses
from services.registry.kinds import ARCHITECTURES
from services.resources.idempotency import made_once
from services.resources.listing import Entries, ListQuery
from services.resources.scope import kept
from services.resources.store import ResourceStore
from services.storage import ContentStore

CHANGEABLE = ("display_name", "class_name", "source", "config", "description", "labels", "file_name", "shared_with")
_OUTPUT_ONLY = ("name", "uid", "function", "certified_by", "digest", "source_digest")


class Architectures:
    """Registers, changes, certifies and deletes architectures."""

    def __init__(self, database: Database, content: ContentStore, blobs: Blobs) -> None:
        self._database = database
        self._content = content
        self._blobs = blobs
        self._leases = Leases(database)
        self._store: ResourceStore[Architecture] = ResourceStore(database, ARCHITECTURES)

    async def create(self, request: CreateArchitectureRequest) -> Architecture:
        """Register an architecture, once per request id.

        Raises:
            LatheError: INVALID_ARGUMENT for a bad source, class name or configuration; ALREADY_EXISTS for a taken name.
        """
        return await made_once(
            self._leases,
            request,
            find=lambda: self._store.first_made(request),
            make=lambda: self._make(request),
        )

    async def _make(self, request: CreateArchitectureRequest) -> Architecture:
        architecture = Architecture()
        architecture.CopyFrom(request.architecture)
        for field in _OUTPUT_ONLY:
            architecture.ClearField(field)  # type: ignore[arg-type]  # all of them are fields
        architecture.certification = CERTIFICATION_UNCERTIFIED
        self._store.require_creation(architecture)
        await asyncio.to_thread(_complete, architecture)
        await self._content.put_bytes(architecture.source.encode())
        return await self._store.create(
            architecture,
            resource_id=request.architecture_id,
            request_id=request.request_id,
            request=request,
            on_create=self._keep_source,
        )

    async def get(self, name: str) -> Architecture:
        """Return an architecture with its source; LatheError NOT_FOUND if there is none."""
        return await self._store.get(name)

    async def page(self, request: ListArchitecturesRequest, entries: Entries[Architecture]) -> str:
        """Make one page, without sources, and return the token of the next."""
        return await self._store.list(ListQuery.from_request(request), entries)

    async def update(self, request: UpdateArchitectureRequest) -> Architecture:
        """Change the fields of the mask; another source or configuration is UNCERTIFIED again.

        Raises:
            LatheError: as `create`; NOT_FOUND; ABORTED for a stale etag.
        """

        def validate(changed: Architecture) -> None:
            check(changed, inside="architecture", changed=request.update_mask)
            digest = changed.digest
            _complete(changed)
            if changed.digest != digest:
                changed.certification = CERTIFICATION_UNCERTIFIED
                changed.certified_by = ""

        if names_field(request.update_mask, "source"):
            await self._store.require_change(request.architecture.name)
            await self._content.put_bytes(request.architecture.source.encode())

        async def keep(connection: Connection, before: Architecture, after: Architecture) -> None:
            if before.source_digest != after.source_digest:
                await self._keep_source(connection, after)

        return await self._store.update(request.architecture, request.update_mask, CHANGEABLE, validate, on_change=keep)

    async def delete(self, name: str, etag: str) -> None:
        """Delete an architecture.

        Raises:
            LatheError: NOT_FOUND; ABORTED for a stale etag; FAILED_PRECONDITION, reason IN_USE, while versions refer
                to it.
        """
        await self._store.delete(name, etag, on_delete=_refuse_used)

    async def _keep_source(self, connection: Connection, architecture: Architecture) -> None:
        """Note that the source is stored: its bytes were put before the transaction began."""
        await self._blobs.record([architecture.source_digest], connection)
        await drop_uses(connection, [architecture.name])
        name, table = architecture.name, ARCHITECTURES.table
        await add_uses(connection, table, name, name, [architecture.source_digest])

    async def use(self, connection: Connection, made_from: Lineage, named: str) -> list[str]:
        """Keep what a new version refers to from being deleted until the transaction ends, and certify it if it is due.

        Args:
            connection: The transaction that creates the version.
            made_from: The version's lineage. A task that used the architecture as it is now certifies it.
            named: The architecture that the version itself names, or empty.

        Returns:
            Those of the names that do not exist.
        """
        names = sorted({*made_from.architectures, *([named] if named else [])})
        missing = set(names) - await kept(connection, "architectures", names, "UPDATE")
        if made_from.task and not missing:
            for name, digest in sorted(made_from.architectures.items()):
                await self._certify(connection, name, digest, made_from.task)
        return sorted(missing)

    async def _certify(self, connection: Connection, name: str, digest: str, task: str) -> None:
        def certify(architecture: Architecture) -> None:
            if architecture.certification != CERTIFICATION_CERTIFIED and architecture.digest == digest:
                architecture.certification = CERTIFICATION_CERTIFIED
                architecture.certified_by = task

        await self._store.modify(name, certify, connection=connection)


def _complete(architecture: Architecture) -> None:
    architecture_rules.complete(architecture)
    source = architecture.source.encode()
    architecture.source_digest.CopyFrom(Digest(sha256=hashlib.sha256(source).hexdigest(), size_bytes=len(source)))


async def _refuse_used(connection: Connection, architecture: Architecture) -> None:
    await drop_uses(connection, [architecture.name])
    if users := await lineage.made_from(connection, [architecture.name]):
        raise failed_precondition(
            "IN_USE",
            f"'{architecture.name}' is used by {', '.join(users)}. Delete those first.",
            subject=architecture.name,
        )
