"""The content store on S3: the object `cas/sha256/ab/abcd…` holds the bytes with that SHA-256."""

from __future__ import annotations

import io
import os
import threading
import uuid
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from lathe.type.v1.digest_pb2 import Digest

from services.platform.errors import LatheError
from services.platform.settings import Settings
from services.storage.bucket import Bucket, is_missing
from services.storage.hashing import hash_bytes, hash_file, hash_stream
from services.storage.store import corrupt, missing

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

__all__ = ["S3ContentStore", "content_key", "stored_size"]

T = TypeVar("T")
FETCH_ATTEMPTS = 3
MULTIPART_BYTES = 64 << 20
PART_BYTES = 32 << 20
PARTS_AT_ONCE = 3


class S3ContentStore:
    """Stores bytes in one bucket of any S3 store.

    What comes out is verified, because not every store verifies what goes in (SeaweedFS accepts a body that does not
    have the `x-amz-content-sha256` that it came with).
    """

    def __init__(self, settings: Settings) -> None:
        self._bucket = Bucket.of(settings)

    async def exists(self, digest: Digest) -> bool:
        """Return whether bytes with this digest, in this size, are stored."""
        return await self._bucket.run(lambda client, _: self._has(client, digest))

    async def find(self, sha256: str) -> Digest | None:
        """Return the digest of stored bytes of which only the SHA-256 is known, or None."""
        key = content_key(Digest(sha256=sha256))
        size = await self._bucket.run(lambda client, _: stored_size(client, self._bucket.name, key))
        return None if size is None else Digest(sha256=sha256, size_bytes=size)

    async def put_file(self, path: Path) -> Digest:
        """Store a file, in parts where it is large, and return its digest."""

        def put(client: S3Client, _stop: threading.Event) -> Digest:
            digest = hash_file(path)
            if not self._has(client, digest):
                self._upload(client, path, content_key(digest))
            return digest

        return await self._bucket.run(put)

    async def put_bytes(self, data: bytes) -> Digest:
        """Store bytes and return their digest."""
        digest = hash_bytes(data)

        def put(client: S3Client, _stop: threading.Event) -> None:
            if not self._has(client, digest):
                client.put_object(Bucket=self._bucket.name, Key=content_key(digest), Body=data)

        await self._bucket.run(put)
        return digest

    async def fetch(self, digest: Digest, path: Path) -> None:
        """Write stored bytes to a file, which appears only when size and SHA-256 are right."""

        def download(client: S3Client, stop: threading.Event) -> None:
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

        def download(client: S3Client, stop: threading.Event) -> bytes:
            content = io.BytesIO()
            self._get(client, digest, content.write, stop)
            return content.getvalue()

        return await self._retried(download)

    async def presigned_get(self, digest: Digest, file_name: str, expires: timedelta) -> str:
        """Return a URL from which the bytes can be read; LatheError NOT_FOUND where they are not stored."""
        if not await self.exists(digest):
            raise missing(digest)
        parameters = {"Key": content_key(digest)}
        if file_name:
            parameters["ResponseContentDisposition"] = f"attachment; filename*=UTF-8''{quote(file_name, safe='')}"
        return await self._bucket.presign("get_object", expires, **parameters)

    async def _retried(self, download: Callable[[S3Client, threading.Event], T]) -> T:
        # botocore repeats a request that fails, but not a body that breaks off or arrives changed.
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        for attempt in range(1, FETCH_ATTEMPTS + 1):
            try:
                return await self._bucket.run(download)
            except (HTTPClientError, IncompleteReadError):
                if attempt == FETCH_ATTEMPTS:
                    raise
            except LatheError as error:
                if error.reason != "CONTENT_CORRUPT" or attempt == FETCH_ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    def _has(self, client: S3Client, digest: Digest) -> bool:
        return stored_size(client, self._bucket.name, content_key(digest)) == digest.size_bytes

    def _get(
        self, client: S3Client, digest: Digest, write: Callable[[memoryview], object], stop: threading.Event
    ) -> None:
        try:
            body = client.get_object(Bucket=self._bucket.name, Key=content_key(digest))["Body"]
        except client.exceptions.NoSuchKey:
            raise missing(digest) from None
        with body:
            found = hash_stream(body, write, stop)
        if found != digest:
            raise corrupt(digest, found)

    def _upload(self, client: S3Client, path: Path, key: str) -> None:
        from s3transfer.manager import TransferConfig, TransferManager

        config = TransferConfig(
            multipart_threshold=MULTIPART_BYTES,
            multipart_chunksize=PART_BYTES,
            max_request_concurrency=PARTS_AT_ONCE,
            max_submission_concurrency=1,
        )
        with TransferManager(client, config) as transfers:
            transfers.upload(str(path), self._bucket.name, key).result()


def content_key(digest: Digest) -> str:
    """Return the key of the object that holds these bytes."""
    return f"cas/sha256/{digest.sha256[:2]}/{digest.sha256}"


def stored_size(client: S3Client, bucket: str, key: str) -> int | None:
    """Return the size of an object in bytes, or None where there is none."""
    from botocore.exceptions import ClientError

    try:
        return client.head_object(Bucket=bucket, Key=key)["ContentLength"]
    except ClientError as error:
        if is_missing(error):
            return None
        raise


def _write_all(file: io.RawIOBase | io.FileIO, block: memoryview) -> None:
    while block:
        block = block[os.write(file.fileno(), block) :]
