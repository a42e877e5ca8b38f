"""Packing of answers: never larger than clients take by default, and compressed if that is worth the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.platform.errors import resource_exhausted
from services.platform.messages import MAX_MESSAGE_BYTES

# To compress less costs a caller more time than it saves.
COMPRESSED_FROM = 16 << 10

Serialize = Callable[[Any], bytes]


def packer(serialize: Any) -> Callable[[Any, Any], bytes]:
    """Return a function that turns an answer into bytes, in the context of its call.

    It raises LatheError for an answer that its client could not receive. No service makes one: see `messages`.
    """

    def pack(answer: Any, context: Any) -> bytes:
        packed: bytes = serialize(answer)
        if len(packed) > MAX_MESSAGE_BYTES:
            raise resource_exhausted(
                "ANSWER_TOO_LARGE",
                f"The answer would be a message of {len(packed)} bytes, and clients take {MAX_MESSAGE_BYTES}. Ask for "
                "less, or for a smaller view.",
            )
        if len(packed) < COMPRESSED_FROM:
            context.disable_next_message_compression()
        return packed

    return pack


def unless_packed(serialize: Any) -> Serialize:
    """Return a serializer for a stream whose handler may also write messages to the context itself."""
    return lambda message: message if isinstance(message, bytes) else serialize(message)
