"""One bucket of any S3 store: threads to run its client in, and signed requests for others to send.

The client is loaded by the first call, so that a process that stores nothing does not pay for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast

from lathe.type.v1.digest_pb2 import Digest

from services.platform.settings import Settings
from services.storage.client import CONNECTIONS, Reader, connect, pool
from services.storage.keys import STAGING
from services.storage.signing import SignedPut, Signer, find_guard

if TYPE_CHECKING:
    import urllib3
    from minio import Minio
    from minio.datatypes import Object

__all__ = ["SINGLE_PUT_BYTES", "Bucket", "Stat", "is_missing"]

T = TypeVar("T")
Body = bytes | BinaryIO | Iterable[bytes]
MISSING = frozenset({"NoSuchKey", "NoSuchBucket", "ResourceNotFound"})
SINGLE_PUT_BYTES = 5 << 30
"""The most that S3 takes in one PUT."""
PART_BYTES = 64 << 20
EMPTY_SHA256 = hashlib.sha256().hexdigest()


@dataclass(frozen=True)
class Stat:
    """What a store says of an object.

    Attributes:
        size: In bytes.
        age: In seconds by the store's own clock.
    """

    size: int
    age: float


class Bucket:
    """One bucket. The first call makes it if it is missing."""

    def __init__(self, signer: Signer, endpoint: str, public_endpoint: str, ca_file: Path | None = None) -> None:
        self.name = signer.bucket
        self._endpoint = endpoint
        self._ca_file = ca_file
        self._public_endpoint = public_endpoint or endpoint
        self._signer = signer
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="s3")
        self._lock = threading.Lock()
        self._exists = False
        # What probing the store found; empty until then.
        self._guard: list[tuple[str, ...] | None] = []

    @classmethod
    def of(cls, settings: Settings) -> Bucket:
        """Return the bucket that the settings name; the same one, with its client, for equal settings."""
        secret = settings.s3_secret_key.get_secret_value()
        signer = Signer(settings.s3_bucket, settings.s3_region, settings.s3_access_key, secret)
        endpoint, public = settings.s3_endpoint.rstrip("/"), settings.s3_public_endpoint.rstrip("/")
        return _bucket(signer, endpoint, public, settings.tls_ca_file)

    @cached_property
    def client(self) -> Minio:
        """The client; thread-safe. Call it through `run`, which keeps the event loop free."""
        return connect(self._endpoint, self._signer, self._http)

    async def run(self, work: Callable[[Minio, threading.Event], T]) -> T:
        """Run blocking work in a thread.

        Args:
            work: Gets the client, and an event that is set when the caller is cancelled; long work looks at it.

        Raises:
            minio.error.MinioException: The store refuses.
            urllib3.exceptions.HTTPError: The store does not answer.
        """
        stop = threading.Event()

        def call() -> T:
            self._make_sure_it_exists()
            return work(self.client, stop)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except asyncio.CancelledError:
            stop.set()
            raise

    async def presign(self, method: str, keys: list[str], expires: timedelta, query: dict[str, str]) -> list[str]:
        """Return a URL per key that lets its holder send this request until it expires."""

        def sign(client: Minio, _stop: threading.Event) -> list[str]:
            elsewhere = self._public_endpoint != self._endpoint
            public = connect(self._public_endpoint, self._signer, self._http) if elsewhere else client
            return [
                public.get_presigned_url(method, self.name, key, expires, extra_query_params=dict(query))
                for key in keys
            ]

        return await self.run(sign)

    async def signed_put(self, key: str, digest: Digest) -> SignedPut | None:
        """Return a request with which anybody can store these bytes, and no others, under a key that is free.

        None if one PUT cannot hold them, or if the store would accept other bytes.
        """
        # MinIO accepts any body with the digest of an empty one.
        if digest.sha256 == EMPTY_SHA256 or not 0 < digest.size_bytes <= SINGLE_PUT_BYTES:
            return None
        guard = await self.run(lambda client, _: self._probed(client))
        if guard is None:
            return None
        return self._signer.put(self._public_endpoint, key, digest, guard, only_new=True)

    def put(self, key: str, body: Body, digest: Digest) -> None:
        """Store bytes of this digest under a key; a store that verifies digests refuses others.

        Raises:
            minio.error.MinioException, urllib3.exceptions.HTTPError: As `run`.
        """
        if digest.size_bytes > SINGLE_PUT_BYTES:
            body = io.BytesIO(body) if isinstance(body, bytes) else body
            stream = body if isinstance(body, io.IOBase) else Reader(iter(body))
            part_bytes = max(PART_BYTES, -(-digest.size_bytes // (10_000 << 20)) << 20)
            self.client.put_object(
                self.name,
                key,
                cast("BinaryIO", stream),
                digest.size_bytes,
                part_size=part_bytes,
                num_parallel_uploads=1,
            )
            return
        answer = self._send(self._signer.put(self._endpoint, key, digest), body)
        if answer.status != 200:
            from minio.error import S3Error, ServerError

            if answer.data:
                raise S3Error.fromxml(answer)
            raise ServerError(f"The store answered {answer.status} to a PUT.", answer.status)

    def size(self, key: str) -> int | None:
        """Return the size of an object in bytes, or None if there is none."""
        found = self.stat(key)
        return None if found is None else found.size

    def stat(self, key: str) -> Stat | None:
        """Return what the store says of an object, or None if there is none."""
        from minio.error import S3Error

        try:
            found = self.client.stat_object(self.name, key)
        except S3Error as error:
            if is_missing(error):
                return None
            raise
        now = _date_of((found.metadata or {}).get("date", ""))
        age = (now - found.last_modified).total_seconds() if found.last_modified else 0.0
        return Stat(found.size or 0, age)

    def remove_once(self, key: str) -> None:
        """Remove an object by one request that is never sent again: a second one could meet what came after the first.

        Raises:
            minio.error.MinioException, urllib3.exceptions.HTTPError: As `run`; the object may be there or not.
        """
        self._unrepeated.remove_object(self.name, key)

    def objects(self, prefix: str) -> Iterator[Object]:
        """Yield the objects whose keys begin with a prefix."""
        found: Iterator[Object] = self.client.list_objects(self.name, prefix=prefix, recursive=True)
        return found

    def _send(self, request: SignedPut, body: Body) -> urllib3.BaseHTTPResponse:
        # Bytes and files are sent again from where they began; a stream cannot be.
        retries = None if isinstance(body, bytes) or hasattr(body, "seek") else False
        return self._http.request("PUT", request.url, body=body, headers=request.headers, retries=retries)

    def _probed(self, client: Minio) -> tuple[str, ...] | None:
        """Return the guard that makes the store refuse other bytes than signed ones, or None if none does.

        The answer is kept. A store that cannot be probed now is not trusted, and probed again by the next call.
        """
        from minio.error import MinioException
        from urllib3.exceptions import HTTPError

        if not self._guard:
            folder = f"{STAGING}probe-{uuid.uuid4().hex}"
            try:
                guard = find_guard(self._signer, self._endpoint, folder, lambda put, body: self._send(put, body).status)
                for each in list(self.objects(folder)):
                    client.remove_object(self.name, str(each.object_name))
            except (MinioException, HTTPError):
                return None
            self._guard.append(guard)
        return self._guard[0]

    def _make_sure_it_exists(self) -> None:
        if self._exists:
            return
        from minio.error import S3Error

        with self._lock:
            try:
                if not self.client.bucket_exists(self.name):
                    self.client.make_bucket(self.name)
            except S3Error as error:
                if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                    raise  # else another process was faster
            self._exists = True

    @cached_property
    def _http(self) -> urllib3.PoolManager:
        return pool(self._ca_file, 2, pause=0.4, statuses=(500, 502, 503, 504))

    @cached_property
    def _unrepeated(self) -> Minio:
        return connect(self._endpoint, self._signer, pool(self._ca_file, 0))


def _date_of(header: str) -> datetime:
    """Return the date of an answer, which is by the same clock as the dates of objects; else that of this machine."""
    try:
        return parsedate_to_datetime(header).replace(tzinfo=UTC)
    except ValueError:
        return datetime.now(UTC)


def is_missing(error: Exception) -> bool:
    """Return whether an S3 error says that the bucket or object is not there."""
    return getattr(error, "code", None) in MISSING


_bucket = lru_cache(maxsize=8)(Bucket)
