"""`request_id`: a repeated request gets the first one's result.

One table `request_ids` per schema, keyed by who asked, what for, and under which id. The row is written in the
transaction that does the work, so that a request that failed leaves none. What takes longer than a transaction goes
through `made_once`: repeats at the same time wait for the first, and later ones are answered before any work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from google.protobuf.message import Message

from services.database.leases import Leases
from services.database.pool import Connection, Database
from services.platform.errors import invalid_argument
from services.platform.identity import current_user
from services.platform.interceptors.aliases import request_as_sent

__all__ = [
    "REQUEST_IDS_BY_AGE",
    "REQUEST_IDS_TABLE",
    "claim_first",
    "claim_request",
    "find_first",
    "fingerprint",
    "forget_requests",
    "made_once",
    "method_of",
]

R = TypeVar("R")

REQUEST_IDS_TABLE = """
    CREATE TABLE request_ids (
        owner text COLLATE "C" NOT NULL,
        request_id uuid NOT NULL,
        method text COLLATE "C" NOT NULL,
        fingerprint bytea NOT NULL,
        resource uuid NOT NULL,
        create_time timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (owner, request_id, method)
    )
"""
"""The statement that creates the table; part of each schema's first migration."""

REQUEST_IDS_BY_AGE = "CREATE INDEX request_ids_age ON request_ids (create_time)"
"""The statement for the index by which old requests are forgotten."""

CLAIM = """
    INSERT INTO request_ids (owner, request_id, method, fingerprint, resource)
    VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING resource
"""
FIND = "SELECT fingerprint, resource FROM request_ids WHERE owner = $1 AND request_id = $2 AND method = $3"


def fingerprint(message: Message, *more: str) -> bytes:
    """Return a hash of what a request asks for: a message, and what else tells two requests apart.

    A request with aliases counts as it was sent: its repeat is the same, even if an alias has moved since.
    """
    parts = [request_as_sent() or message.SerializeToString(deterministic=True), *(text.encode() for text in more)]
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()


def method_of(request: Message) -> str:
    """Return the method that a request is for; ids of different methods are different ids."""
    return request.DESCRIPTOR.name.removesuffix("Request")


async def made_once(
    leases: Leases,
    request: Any,
    find: Callable[[], Awaitable[R | None]],
    make: Callable[[], Awaitable[R]],
) -> R:
    """Return what the first request with this id made; make it if this is the first.

    Args:
        leases: of the service: a repeat waits for the first one on whichever replica, and holds no connection.
        request: with its `request_id`: a UUID; empty if the caller gave none, and then nothing is a repeat.
        find: returns what the first request made, or None; called before anything else.
        make: does the work, and claims the request in the transaction that stores its result.
    """
    if not request.request_id:
        return await make()
    if (first := await find()) is not None:
        return first
    async with leases.hold(f"{method_of(request)} {UUID(request.request_id)} of {current_user()}"):
        first = await find()
        return first if first is not None else await make()


async def claim_request(
    connection: Connection, *, owner: str, request_id: str, method: str, fingerprint: bytes, resource: UUID
) -> UUID | None:
    """Remember a request, or find the first one with its id. A concurrent one with the same id is waited for.

    Args:
        connection: the transaction that does the work.
        owner: who asks.
        request_id: a UUID.
        method: what for, for example `CreateModel`: see `method_of`.
        fingerprint: hash of the request.
        resource: uid of the resource that this request is about to create.

    Returns:
        None if this is the first request; for a repeat, the uid of what the first one created.

    Raises:
        LatheError: INVALID_ARGUMENT, reason REQUEST_ID_REUSED, if the id stood for a different request.
    """
    key = _key(owner, request_id, method)
    if await connection.fetchval(CLAIM, *key, fingerprint, resource) is not None:
        return None
    return await _first(connection, key, fingerprint)


def _key(owner: str, request_id: str, method: str) -> tuple[str, UUID, str]:
    try:
        return owner, UUID(request_id), method
    except ValueError:
        raise invalid_argument("request_id", f"'{request_id}' is not a UUID. Send one, or leave it empty.") from None


async def _first(connection: Connection | Database, key: tuple[str, UUID, str], fingerprint: bytes) -> UUID | None:
    first = await connection.fetchrow(FIND, *key)
    if first is None:
        return None
    if first["fingerprint"] != fingerprint:
        raise invalid_argument(
            "request_id",
            f"{key[1]} was already sent with a different request. Use a new UUID for a new request.",
            reason="REQUEST_ID_REUSED",
        )
    found: UUID = first["resource"]
    return found


async def find_first(reader: Connection | Database, request: Any) -> UUID | None:
    """Return what the first request with the `request_id` of this one created for this caller; None if there is none.

    For work that is too long for a transaction: ask before it, and claim with what it made.

    Raises:
        LatheError: INVALID_ARGUMENT, if the id is not a UUID; reason REQUEST_ID_REUSED, if it stood for a different
            request.
    """
    key = _key(current_user(), request.request_id, method_of(request))
    return await _first(reader, key, fingerprint(request))


async def claim_first(connection: Connection, request: Any, resource: UUID) -> UUID | None:
    """Claim the `request_id` of a request, if it has one, for what it is about to create. Returns and raises alike."""
    if not request.request_id:
        return None
    return await claim_request(
        connection,
        owner=current_user(),
        request_id=request.request_id,
        method=method_of(request),
        fingerprint=fingerprint(request),
        resource=resource,
    )


async def forget_requests(database: Database, older_than: timedelta = timedelta(days=7)) -> int:
    """Remove what is too old to be repeated; return the number of requests forgotten."""
    tag = await database.execute("DELETE FROM request_ids WHERE create_time < now() - $1::interval", older_than)
    return int(tag.split()[-1])
