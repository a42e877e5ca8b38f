"""What a repeated Create answers, asked before anything is checked that may have changed since the first."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import Message

from services.database.pool import Database
from services.resources.idempotency import find_first
from services.resources.kind import ResourceKind
from services.resources.store import ResourceStore

M = TypeVar("M", bound=Message)


async def first_made(database: Database, kind: ResourceKind[M], request: Any) -> M | None:
    """Return what the first request with the `request_id` of this one created.

    Args:
        database: Where resources of the kind are stored, by `ResourceStore.create` with the same request.
        kind: The kind.
        request: The request.

    Returns:
        None if there was none before, or if the request has no id.

    Raises:
        LatheError: INVALID_ARGUMENT, reason REQUEST_ID_REUSED, if the id stood for a different request;
            FAILED_PRECONDITION, reason ALREADY_DELETED, if what it created is deleted.
    """
    uid = await find_first(database, request) if request.request_id else None
    return None if uid is None else await ResourceStore(database, kind).created_by_request(uid)
