"""What a repeated Create answers, asked before anything is checked that may have changed since the first."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import Message

from services.common.database import Database
from services.common.idempotency import find_request, fingerprint, method_of
from services.common.identity import current_user
from services.common.resource_kind import ResourceKind
from services.common.resources import ResourceStore

M = TypeVar("M", bound=Message)


async def first_made(database: Database, kind: ResourceKind[M], request_id: str, request: Message) -> M | None:
    """Return what the first request with this id created.

    Args:
        database: Where resources of the kind are stored, by `ResourceStore.create` with the same request.
        kind: The kind.
        request_id: Empty where the caller gave none.
        request: The request.

    Returns:
        None if there was none before.

    Raises:
        LatheError: INVALID_ARGUMENT, reason REQUEST_ID_REUSED, where the id stood for a different request;
            FAILED_PRECONDITION, reason ALREADY_DELETED, if what it created is deleted.
    """
    if not request_id:
        return None
    uid = await find_request(
        database,
        owner=current_user(),
        request_id=request_id,
        method=method_of(request),
        fingerprint=fingerprint(request),
    )
    return None if uid is None else await ResourceStore(database, kind).created_by_request(uid)
