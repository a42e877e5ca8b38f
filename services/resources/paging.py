"""Pages: sizes, and tokens that continue a list after the page before."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.platform.errors import invalid_argument

__all__ = ["MAX_PAGE_SIZE", "Position", "decode_token", "encode_token", "page_size"]

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Position:
    """Where a page ended: the last row's values of the ordering columns, and whether the search was fuzzy."""

    values: tuple[object, ...]
    fuzzy: bool = False


def page_size(asked: int) -> int:
    """Return how many entries a page holds: 50 for 0, at most 1000.

    Raises:
        LatheError: INVALID_ARGUMENT if it is negative.
    """
    if asked < 0:
        raise invalid_argument("page_size", f"{asked} is negative. Ask for 1 to {MAX_PAGE_SIZE}, or 0 for the default.")
    return min(asked, MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE


def encode_token(position: Position, query: object) -> str:
    """Return an opaque, URL-safe token for a position in the list that `query` (JSON-like) describes."""
    payload = [int(position.fuzzy), *(_to_json(value) for value in position.values)]
    text = json.dumps([_seal(payload, query), *payload], separators=(",", ":"))
    return _encode(text.encode())


def decode_token(token: str, query: object, types: Sequence[type]) -> Position:
    """Return the position that a token stands for.

    Args:
        token: what `encode_token` returned.
        query: the same query as then.
        types: the types of the position's values.

    Raises:
        LatheError: INVALID_ARGUMENT for a token that is damaged, invented, or of another query.
    """
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        seal, fuzzy, *values = json.loads(text)
        if seal != _seal([fuzzy, *values], query) or len(values) != len(types) or _encode(text) != token:
            raise ValueError("not what encode_token returned for this query")
        found = tuple(_from_json(value, kind) for value, kind in zip(values, types, strict=True))
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error):
        raise invalid_argument(
            "page_token",
            "The token does not belong to this query. Send `next_page_token` of the page before with the same filters, "
            "search and order, or leave it empty to start again.",
        ) from None
    return Position(found, bool(fuzzy))


def _encode(text: bytes) -> str:
    return base64.urlsafe_b64encode(text).decode().rstrip("=")


def _seal(payload: object, query: object) -> str:
    # Not a secret: it tells a token of another query, or a damaged one, from the right one.
    text = json.dumps([payload, query], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _to_json(value: object) -> object:
    if isinstance(value, datetime):
        return (value - EPOCH) // MICROSECOND
    return str(value) if isinstance(value, UUID) else value


def _from_json(value: Any, kind: type) -> object:
    if kind is datetime:
        return EPOCH + value * MICROSECOND
    if kind is UUID:
        return UUID(value)
    if not isinstance(value, kind):
        raise TypeError(kind)
    return value
