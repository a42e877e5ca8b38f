"""SHA-256 of files and streams, in bounded memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from lathe.type.v1.digest_pb2 import Digest

__all__ = ["Cancelled", "hash_bytes", "hash_file", "hash_stream"]

BLOCK_BYTES = 1 << 20


class Cancelled(Exception):  # noqa: N818 - no error: somebody asked for it
    """The work in this thread was asked to stop."""


class Source(Protocol):
    """A stream that fills a buffer."""

    def readinto(self, buffer: Any, /) -> int | None:
        """Fill the buffer from its start and return the number of bytes; 0 at the end."""
        ...


def hash_stream(
    source: Source, write: Callable[[memoryview], object] | None = None, stop: threading.Event | None = None
) -> Digest:
    """Read a stream to its end through one buffer, and return the digest of what came.

    Args:
        source: the stream.
        write: gets each block; what it is given is only valid during the call.
        stop: raises Cancelled once set.
    """
    sha256, size = hashlib.sha256(), 0
    block = memoryview(bytearray(BLOCK_BYTES))
    while count := source.readinto(block):
        if stop is not None and stop.is_set():
            raise Cancelled
        filled = block[:count]
        sha256.update(filled)
        if write is not None:
            write(filled)
        size += count
    return Digest(sha256=sha256.hexdigest(), size_bytes=size)


def hash_file(path: Path) -> Digest:
    """Return the digest of a file; blocks while it reads."""
    with path.open("rb", buffering=0) as file:
        return hash_stream(file)


def hash_bytes(data: bytes) -> Digest:
    """Return the digest of bytes."""
    return Digest(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
