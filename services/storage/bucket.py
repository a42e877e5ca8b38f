"""One bucket of any S3 store: a tuned client, threads to run it in, presigned URLs.

botocore is used without boto3, which is a thin layer over it that costs 10 MB more in every process; and it is loaded
by the first call, so that a process which stores nothing never pays for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from services.platform.settings import Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

__all__ = ["Bucket", "is_missing"]

T = TypeVar("T")
CONNECTIONS = 16
MISSING = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NoSuchBucket", "NotFound"})


class Bucket:
    """One bucket. It is made by the first call where it is missing."""

    def __init__(
        self, *, endpoint: str, public_endpoint: str, access_key: str, secret_key: str, region: str, name: str
    ):
        self.name = name
        self._endpoint = endpoint
        self._public_endpoint = public_endpoint or endpoint
        self._credentials = {
            "aws_access_key_id": access_key,
            "aws_secret_access_key": secret_key,
            "region_name": region,
        }
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="s3")
        self._lock = threading.Lock()
        self._is_there = False

    @classmethod
    def of(cls, settings: Settings) -> Bucket:
        """Return the bucket that the settings name; the same one, with its client, for equal settings."""
        return _bucket(
            settings.s3_endpoint,
            settings.s3_public_endpoint,
            settings.s3_access_key,
            settings.s3_secret_key.get_secret_value(),
            settings.s3_region,
            settings.s3_bucket,
        )

    @cached_property
    def client(self) -> S3Client:
        """The client; thread-safe. Call it through `run`, which keeps the event loop free."""
        return self._connect(self._endpoint)

    @cached_property
    def _public_client(self) -> S3Client:
        return self.client if self._public_endpoint == self._endpoint else self._connect(self._public_endpoint)

    async def run(self, work: Callable[[S3Client, threading.Event], T]) -> T:
        """Run blocking work in a thread.

        Args:
            work: gets the client, and an event that is set when the caller is cancelled; long work looks at it.

        Raises:
            botocore.exceptions.BotoCoreError, ClientError: what the store answers, or that it does not.
        """
        stop = threading.Event()

        def call() -> T:
            self._make_sure_it_is_there()
            return work(self.client, stop)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except asyncio.CancelledError:
            stop.set()
            raise

    async def presign(self, operation: str, expires: timedelta, **parameters: Any) -> str:
        """Return a URL that carries out one operation for whoever has it."""
        return (await self.presign_all(operation, expires, [parameters]))[0]

    async def presign_all(self, operation: str, expires: timedelta, each: list[dict[str, Any]]) -> list[str]:
        """Return a URL per set of parameters."""
        seconds = int(expires.total_seconds())

        def sign(_client: S3Client, _stop: threading.Event) -> list[str]:
            client: Any = self._public_client
            return [
                client.generate_presigned_url(operation, Params={"Bucket": self.name, **parameters}, ExpiresIn=seconds)
                for parameters in each
            ]

        return await self.run(sign)

    def _make_sure_it_is_there(self) -> None:
        if self._is_there:
            return
        from botocore.exceptions import ClientError

        with self._lock:
            try:
                self.client.head_bucket(Bucket=self.name)
            except ClientError as error:
                if not is_missing(error):
                    raise
                self._create()
            self._is_there = True

    def _create(self) -> None:
        client = self.client
        try:
            client.create_bucket(Bucket=self.name)
        except (client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
            return  # another process was faster

    def _connect(self, endpoint: str) -> S3Client:
        import botocore.session
        from botocore.config import Config

        config = Config(
            signature_version="s3v4",
            # MinIO and SeaweedFS have no host name per bucket.
            s3={"addressing_style": "path"},
            # The store is checked by SHA-256, which says more than the CRC that newer clients add to every body.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            max_pool_connections=CONNECTIONS,
            connect_timeout=5,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 3},
            tcp_keepalive=True,
        )
        session: Any = botocore.session.get_session()
        client: S3Client = session.create_client("s3", endpoint_url=endpoint, config=config, **self._credentials)
        return client


def is_missing(error: Exception) -> bool:
    """Return whether an S3 error says that the bucket, object or upload is not there."""
    answer = getattr(error, "response", {})
    return answer.get("Error", {}).get("Code") in MISSING


@lru_cache(maxsize=8)
def _bucket(endpoint: str, public_endpoint: str, access_key: str, secret_key: str, region: str, name: str) -> Bucket:  # noqa: PLR0917
    return Bucket(
        endpoint=endpoint,
        public_endpoint=public_endpoint,
        access_key=access_key,
        secret_key=secret_key,
        region=region,
        name=name,
    )
