"""The content store on S3: the object `cas/sha256/ab/abcd…` holds the bytes with that SHA-256."""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from io import BytesIO, FileIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from lathe.type.v1.digest_pb2 import Digest

from services.platform.errors import LatheError
from services.platform.settings import Settings
from services.storage.bucket import Bucket, is_missing
from services.storage.claims import Claims
from services.storage.hashing import BLOCK_BYTES, ahead, hash_blocks, hash_bytes, hash_file
from services.storage.keys import content_key
from services.storage.store import corrupt, missing

if TYPE_CHECKING:
    from minio import Minio

__all__ = ["S3ContentStore"]

T = TypeVar("T")
FETCH_ATTEMPTS = 3


class S3ContentStore:
    """Stores bytes in one bucket of any S3 store. It verifies everything that it hands out."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = Bucket.of(settings)
        self._claims = Claims(self._bucket)

    async def exists(self, digest: Digest) -> bool:
        """Return whether bytes with this digest, in this size, are stored."""
        return await self._bucket.run(lambda *_: self._claims.take(digest))

    async def find(self, sha256: str) -> Digest | None:
        """Return the digest of stored bytes of which only the SHA-256 is known, or None."""

        def find(_client: Minio, _stop: threading.Event) -> Digest | None:
            digest = Digest(sha256=sha256)
            size = self._bucket.size(content_key(digest))
            if size is None:
                return None
            digest.size_bytes = size
            return digest if self._claims.take(digest) else None

        return await self._bucket.run(find)

    async def put_file(self, path: Path) -> Digest:
        """Store a file and return its digest."""

        def put(_client: Minio, _stop: threading.Event) -> Digest:
            digest = hash_file(path)
            if not self._claims.take(digest):
                with path.open("rb") as file:
                    self._bucket.put(content_key(digest), file, digest)
            return digest

        return await self._bucket.run(put)

    async def put_bytes(self, data: bytes) -> Digest:
        """Store bytes and return their digest."""
        digest = hash_bytes(data)

        def put(_client: Minio, _stop: threading.Event) -> None:
            if not self._claims.take(digest):
                self._bucket.put(content_key(digest), data, digest)

        await self._bucket.run(put)
        return digest

    async def fetch(self, digest: Digest, path: Path) -> None:
        """Write stored bytes to a file, which appears only when size and SHA-256 are right."""

        def download(client: Minio, stop: threading.Event) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f".{uuid.uuid4().hex}.partial")
            try:
                with partial.open("wb", buffering=0) as file:
                    self._get(client, digest, lambda block: _write_all(file, block), stop)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)

        await self._retried(download)

    async def read(self, digest: Digest) -> bytes:
        """Return stored bytes, verified."""

        def download(client: Minio, stop: threading.Event) -> bytes:
            content = BytesIO()
            self._get(client, digest, content.write, stop)
            return content.getvalue()

        return await self._retried(download)

    async def presigned_get(self, digest: Digest, file_name: str, expires: timedelta) -> str:
        """Return a URL from which the bytes can be read; LatheError NOT_FOUND if they are not stored."""
        if await self._bucket.run(lambda *_: self._bucket.size(content_key(digest))) != digest.size_bytes:
            raise missing(digest)
        disposition = f"attachment; filename*=UTF-8''{quote(file_name, safe='')}"
        query = {"response-content-disposition": disposition} if file_name else {}
        return (await self._bucket.presign("GET", [content_key(digest)], expires, query))[0]

    async def _retried(self, download: Callable[[Minio, threading.Event], T]) -> T:
        # The client repeats a request that fails, but not a body that breaks off or arrives changed.
        from urllib3.exceptions import HTTPError

        for attempt in range(1, FETCH_ATTEMPTS + 1):
            try:
                return await self._bucket.run(download)
            except HTTPError:
                if attempt == FETCH_ATTEMPTS:
                    raise
            except LatheError as error:
                if error.reason != "CONTENT_CORRUPT" or attempt == FETCH_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _get(self, client: Minio, digest: Digest, write: Callable[[bytes], object], stop: threading.Event) -> None:
        from minio.error import S3Error

        try:
            answer = client.get_object(self._bucket.name, content_key(digest))
        except S3Error as error:
            if is_missing(error):
                raise missing(digest) from None
            raise
        with answer:
            # An uploader may have named an encoding: what counts are the bytes that are stored.
            found = hash_blocks(ahead(answer.stream(BLOCK_BYTES, decode_content=False)), write, stop)
            answer.release_conn()
        if found != digest:
            raise corrupt(digest, found)


def _write_all(file: FileIO, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]
