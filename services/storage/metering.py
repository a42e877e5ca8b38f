"""Prometheus metrics around a content store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from lathe.type.v1.digest_pb2 import Digest
from prometheus_client import Counter, Histogram

from services.platform.errors import LatheError
from services.storage.store import ContentStore

__all__ = ["MeteredStore"]

SECONDS = Histogram(
    "lathe_storage_seconds",
    "Duration of operations on the content store.",
    ["operation", "outcome"],
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60, 300),
)
BYTES = Counter("lathe_storage_bytes", "Bytes written to and read from the content store.", ["operation"])


class MeteredStore:
    """Counts and times the operations on another store."""

    def __init__(self, store: ContentStore) -> None:
        self._store = store

    async def exists(self, digest: Digest) -> bool:
        """Return whether bytes with this digest, in this size, are stored."""
        with _timed("exists"):
            return await self._store.exists(digest)

    async def find(self, sha256: str) -> Digest | None:
        """Return the digest of stored bytes, or None."""
        with _timed("exists"):
            return await self._store.find(sha256)

    async def put_file(self, path: Path) -> Digest:
        """Store a file and return its digest."""
        with _timed("put"):
            digest = await self._store.put_file(path)
        BYTES.labels("put").inc(digest.size_bytes)
        return digest

    async def put_bytes(self, data: bytes) -> Digest:
        """Store bytes and return their digest."""
        with _timed("put"):
            digest = await self._store.put_bytes(data)
        BYTES.labels("put").inc(digest.size_bytes)
        return digest

    async def fetch(self, digest: Digest, path: Path) -> None:
        """Write stored bytes to a file."""
        with _timed("fetch"):
            await self._store.fetch(digest, path)
        BYTES.labels("fetch").inc(digest.size_bytes)

    async def read(self, digest: Digest) -> bytes:
        """Return stored bytes."""
        with _timed("fetch"):
            data = await self._store.read(digest)
        BYTES.labels("fetch").inc(len(data))
        return data

    async def presigned_get(self, digest: Digest, file_name: str, expires: timedelta) -> str:
        """Return a URL from which the bytes can be read."""
        with _timed("presign"):
            return await self._store.presigned_get(digest, file_name, expires)


@contextmanager
def _timed(operation: str) -> Iterator[None]:
    started, outcome = time.perf_counter(), "failed"
    try:
        yield
        outcome = "ok"
    except LatheError as error:
        outcome = error.reason.lower()
        raise
    finally:
        SECONDS.labels(operation, outcome).observe(time.perf_counter() - started)
