"""Resources in PostgreSQL: one store for every kind of message that has a name, an owner, labels and an etag.

    models = ResourceStore(database, ResourceKind(Model, table="models", collection="models", noun="model"))
    model = await models.create(request.model, resource_id=request.model_id, request_id=request.request_id)

The store sets `name`, `uid`, `owner`, `create_time`, `update_time` and `etag`. Every method runs in a transaction of
its own, or in the caller's if `connection` is given, so that a service can write more together with its resource.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from uuid_utils.compat import uuid7

from services.audit.entries import note
from services.database.pool import Connection, Database
from services.platform import errors
from services.platform.changes import apply_mask, check_etag
from services.platform.identity import current_user
from services.resources.idempotency import claim_request, find_first, fingerprint, method_of
from services.resources.kind import ResourceKind
from services.resources.reader import ResourceReader
from services.resources.rows import ResourceRows
from services.resources.scope import OfParent, Stated

M = TypeVar("M", bound=Message)


class ResourceStore(ResourceReader[M]):
    """Creates, changes and deletes the resources of one kind, and reads them."""

    def __init__(self, database: Database, kind: ResourceKind[M]) -> None:
        super().__init__(database, kind)
        self._rows = ResourceRows(kind)

    async def create(
        self,
        message: M,
        *,
        resource_id: str = "",
        parent: str = "",
        request_id: str = "",
        request: Message | None = None,
        owner: str = "",
        extra: Mapping[str, object] | None = None,
        on_create: Callable[[Connection, M], Awaitable[None]] | None = None,
        connection: Connection | None = None,
        validate_only: bool = False,
    ) -> M:
        """Store a new resource and return it as stored.

        Args:
            message: the resource; it is not changed.
            resource_id: last part of its name; if empty, made from the kind's `id_source`, numbered if taken.
            parent: name of the resource that it belongs to.
            request_id: a UUID; the caller's second request with it gets what the first one created.
            request: what makes two requests the same, as services may choose ids; message, id and parent if None.
            owner: whose it is; the current user if empty.
            extra: values of extra columns that the message does not have.
            on_create: runs in the same transaction with the stored resource, and not for a repeated request.
            connection: a transaction to run in.
            validate_only: undoes all of it, unless `connection` is given; then its owner does.

        Raises:
            LatheError: ALREADY_EXISTS for a taken id or unique field; FAILED_PRECONDITION, reason NAME_RETIRED, for the
                id of a deleted one that the caller could see; INVALID_ARGUMENT for a reused `request_id`.
        """
        uid = uuid7()
        asker = current_user()
        async with self._database.transaction(connection, undo=validate_only) as transaction:
            if request_id and not validate_only:
                mark = fingerprint(message, resource_id, parent) if request is None else fingerprint(request)
                earlier = await claim_request(
                    transaction,
                    owner=asker,
                    request_id=request_id,
                    method=f"Create{message.DESCRIPTOR.name}" if request is None else method_of(request),
                    fingerprint=mark,
                    resource=uid,
                )
                if earlier is not None:
                    return await self._created_by_request(earlier, transaction)
            created: Any = self._kind.message_type()
            created.CopyFrom(message)
            created.uid, created.owner = str(uid), owner or asker
            created.create_time.FromDatetime(datetime.now(UTC))
            created.update_time.CopyFrom(created.create_time)
            self.require_creation(created)
            scope, more, belonging = self._kind.scope, dict(extra or {}), None
            if isinstance(scope, OfParent):
                belonging = await scope.belonging(transaction, parent)
                more |= asdict(belonging)
            await self._rows.insert(transaction, created, resource_id=resource_id, parent=parent, extra=more)
            if isinstance(scope, Stated):  # perhaps by the name that it has now
                belonging = scope.belonging(created)
                await scope.require_projects(transaction, belonging.readers[1:])
            await note(transaction, None, created, "" if belonging is None else belonging.project)
            if on_create is not None:
                await on_create(transaction, created)
        for field in ("uid", "create_time", "update_time", "etag") if validate_only else ():
            created.ClearField(field)
        return created  # type: ignore[no-any-return]

    def require_creation(self, message: M) -> None:
        """Refuse, before work that takes long, who may not create a resource that states its project.

        Raises:
            LatheError: NOT_FOUND for the project; PERMISSION_DENIED, reason ROLE_REQUIRED.
        """
        if isinstance(scope := self._kind.scope, Stated):
            scope.require_creation(message)

    async def update(
        self,
        message: M,
        mask: FieldMask,
        allowed_fields: Collection[str],
        validate: Callable[[M], None] | None = None,
        *,
        on_change: Callable[[Connection, M, M], Awaitable[None]] | None = None,
        connection: Connection | None = None,
    ) -> M:
        """Change the fields that a mask names, and return the resource as stored.

        Args:
            message: `name` says which resource; `etag`, if set, must be the current one; the rest are new values.
            mask: the fields to change, all of them among `allowed_fields`.
            allowed_fields: the fields that may change.
            validate: checks the changed resource, and may complete it, before it is stored.
            on_change: as in `modify`.
            connection: a transaction to run in.

        Raises:
            LatheError: INVALID_ARGUMENT for a wrong mask; otherwise as `modify`.
        """
        sent: Any = message

        def change(stored: M) -> None:
            apply_mask(message, stored, mask, allowed_fields)
            if validate is not None:
                validate(stored)

        return await self.modify(sent.name, change, etag=sent.etag, on_change=on_change, connection=connection)

    async def modify(
        self,
        name: str,
        change: Callable[[M], None],
        *,
        etag: str = "",
        extra: Mapping[str, object] | None = None,
        on_change: Callable[[Connection, M, M], Awaitable[None]] | None = None,
        connection: Connection | None = None,
    ) -> M:
        """Change a resource by a function of the service; a change that changes nothing keeps the etag.

        Args:
            name: which resource.
            change: changes the message in place, except for what the store itself sets.
            etag: must be the current one, unless empty.
            extra: new values of extra columns that the message does not have.
            on_change: runs in the same transaction with the resource before and after.
            connection: a transaction to run in.

        Raises:
            LatheError: NOT_FOUND; ABORTED for a stale etag; ALREADY_EXISTS for a taken unique field.
        """
        async with self._database.transaction(connection) as transaction:
            found, revision, project = await self._rows.lock(transaction, name)
            before: Any = found
            check_etag(etag, before.etag, name)
            after: Any = self._kind.message_type()
            after.CopyFrom(before)
            change(after)
            for managed in ("name", "uid", "owner", "etag"):
                setattr(after, managed, getattr(before, managed))
            if after == before and not extra:
                return after  # type: ignore[no-any-return]
            earliest = before.update_time.ToDatetime(tzinfo=UTC) + timedelta(microseconds=1)
            after.create_time.CopyFrom(before.create_time)
            after.update_time.FromDatetime(max(datetime.now(UTC), earliest))
            await self._rows.replace(transaction, after, revision + 1, extra or {})
            if isinstance(scope := self._kind.scope, Stated):
                await scope.share(transaction, self._kind.shared_in, before, after)
            await note(transaction, before, after, project)
            if on_change is not None:
                await on_change(transaction, before, after)
        return after  # type: ignore[no-any-return]

    async def delete(
        self,
        name: str,
        etag: str = "",
        *,
        on_delete: Callable[[Connection, M], Awaitable[None]] | None = None,
        connection: Connection | None = None,
    ) -> M:
        """Delete a resource and return it; its name is not used again if the kind retires names.

        `on_delete` runs in the same transaction, before the row goes, and raises to refuse.

        Raises:
            LatheError: NOT_FOUND; ABORTED for an etag, if one is given, that is not the current one.
        """
        async with self._database.transaction(connection) as transaction:
            found, revision, project = await self._rows.lock(transaction, name)
            check_etag(etag, getattr(found, "etag"), name)  # noqa: B009 - not in Message
            if on_delete is not None:
                await on_delete(transaction, found)
            await self._rows.remove(transaction, found, revision)
            await note(transaction, found, None, project)
        return found

    async def first_made(self, request: Any) -> M | None:
        """Return what the first request with this `request_id` created; LatheError if it was another, or is deleted."""
        uid = await find_first(self._database, request) if request.request_id else None
        return None if uid is None else await self._created_by_request(uid, self._database)

    async def _created_by_request(self, uid: UUID, connection: Connection | Database) -> M:
        found = await self.find("uid", uid, connection=connection)
        if found is None:
            what = f"The {self._kind.noun} that a request with this request_id created is deleted"
            raise errors.failed_precondition("ALREADY_DELETED", f"{what}. Use a new request_id to create another one.")
        return found
