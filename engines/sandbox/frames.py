"""Messages on the control pipes: four letters, a length, and that many bytes of JSON.

The reader trusts nothing: untrusted code in the process at the other end may write anything.
"""

from __future__ import annotations

import json
import struct
from typing import Any

MAGIC = b"LTH1"
HEADER = struct.Struct("<4sI")
MAX_PAYLOAD = 64 << 20
"""Largest message in bytes; larger ones are refused before they are read, and belong in a file."""


class FrameError(ValueError):
    """The bytes are not a valid message."""


def encode(message: dict[str, Any]) -> bytes:
    """Return the message as bytes.

    Raises:
        FrameError: The message is larger than `MAX_PAYLOAD`.
        TypeError: A value in it is not JSON.
        ValueError: A value in it contains itself.
    """
    payload = json.dumps(message, ensure_ascii=True).encode()
    if len(payload) > MAX_PAYLOAD:
        raise FrameError(f"a message of {len(payload):,} bytes is larger than the {MAX_PAYLOAD:,} that one may have")
    return HEADER.pack(MAGIC, len(payload)) + payload


def payload_length(header: bytes) -> int:
    """Return the number of bytes after the header.

    Raises:
        FrameError: The bytes are no header, or announce more than `MAX_PAYLOAD`.
    """
    magic, length = HEADER.unpack(header)
    if magic != MAGIC or length > MAX_PAYLOAD:
        raise FrameError(f"expected a message, found the bytes {header!r}")
    return int(length)


def decode(payload: bytes) -> dict[str, Any]:
    """Return the message in a payload.

    Raises:
        FrameError: The payload is not one JSON object.
    """
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"a message is not JSON: {error}") from error
    if not isinstance(message, dict):
        raise FrameError(f"a message is a JSON {type(message).__name__}, not an object")
    return message
