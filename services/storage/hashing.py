"""SHA-256 of files and streams, in bounded memory."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

from lathe.type.v1.digest_pb2 import Digest

__all__ = ["Cancelled", "WrongBytes", "ahead", "blocks_of", "checked", "hash_blocks", "hash_bytes", "hash_file"]

BLOCK_BYTES = 1 << 20


class Cancelled(Exception):  # noqa: N818 - no error: somebody asked for it
    """The work in this thread was asked to stop."""


class WrongBytes(Exception):  # noqa: N818 - the caller says what is wrong about them
    """A stream does not have the digest that it should have."""

    def __init__(self, found: Digest) -> None:
        """Keep the digest that the stream has; an empty one if the stream was longer than expected."""
        super().__init__(found.sha256)
        self.found = found


class Source(Protocol):
    """A file or a stream."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        ...


def blocks_of(source: Source) -> Iterator[bytes]:
    """Yield what a file or stream still holds."""
    return iter(partial(source.read, BLOCK_BYTES), b"")


def ahead(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield blocks; another thread gets the next one while the caller works on the last."""
    with ThreadPoolExecutor(1, thread_name_prefix="ahead") as reader:
        coming = reader.submit(next, blocks, b"")
        while block := coming.result():
            coming = reader.submit(next, blocks, b"")
            yield block


def hash_blocks(
    blocks: Iterable[bytes], write: Callable[[bytes], object] | None = None, stop: threading.Event | None = None
) -> Digest:
    """Return the digest of a stream.

    Args:
        blocks: The stream.
        write: Gets each block.
        stop: Raises Cancelled once set.
    """
    sha256, size = hashlib.sha256(), 0
    for block in blocks:
        if stop is not None and stop.is_set():
            raise Cancelled
        sha256.update(block)
        if write is not None:
            write(block)
        size += len(block)
    return Digest(sha256=sha256.hexdigest(), size_bytes=size)


def checked(blocks: Iterable[bytes], digest: Digest) -> Iterator[bytes]:
    """Yield a stream whose last block comes only if all of it has the digest.

    A receiver that needs `digest.size_bytes` bytes can therefore never complete with other bytes.

    Raises:
        WrongBytes: The stream is another one.
    """
    sha256, size, held = hashlib.sha256(), 0, b""
    for block in blocks:
        size += len(block)
        if size > digest.size_bytes:
            raise WrongBytes(Digest(size_bytes=size))
        if held:
            yield held
        sha256.update(block)
        held = block
    found = Digest(sha256=sha256.hexdigest(), size_bytes=size)
    if found != digest:
        raise WrongBytes(found)
    if held:
        yield held


def hash_file(path: Path) -> Digest:
    """Return the digest of a file; blocks while it reads."""
    with path.open("rb", buffering=0) as file:
        return hash_blocks(blocks_of(file))


def hash_bytes(data: bytes) -> Digest:
    """Return the digest of bytes."""
    return Digest(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
