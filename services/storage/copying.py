"""A copy inside the store that nobody can see before it is completed."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from services.storage.bucket import Bucket
from services.storage.parts import spans

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

__all__ = ["PendingCopy"]

# A copy of one request may have 5 GiB; parts also let the store work on several at once.
PART_BYTES = 64 << 20
PARTS_AT_ONCE = 3


class PendingCopy:
    """Copies an object as a multipart upload: `transfer()`, then `complete()`; a block that ends before drops it."""

    def __init__(self, bucket: Bucket, source: str, target: str, size: int) -> None:
        self._bucket = bucket
        self._source = source
        self._target = target
        self._spans = spans(size, smallest=PART_BYTES)
        self._upload_id = ""
        self._parts: list[Any] = []

    async def __aenter__(self) -> PendingCopy:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._upload_id:
            # What cannot be dropped now, the sweep of uploads drops later.
            with suppress(Exception):
                await self._bucket.run(self._abort)

    async def transfer(self) -> None:
        """Let the store copy every part."""
        self._upload_id = await self._bucket.run(self._begin)
        slots = asyncio.Semaphore(PARTS_AT_ONCE)

        async def copy(number: int, first: int, last: int) -> dict[str, object]:
            async with slots:
                return await self._bucket.run(lambda client, _: self._copy_part(client, number, first, last))

        async with asyncio.TaskGroup() as group:
            copies = [
                group.create_task(copy(span.number, span.offset, span.offset + span.size - 1)) for span in self._spans
            ]
        self._parts = [task.result() for task in copies]

    async def complete(self) -> None:
        """Make the copy visible; does nothing where nothing was transferred."""
        if self._upload_id:
            await self._bucket.run(self._complete)
            self._upload_id = ""

    def _begin(self, client: S3Client, _stop: threading.Event) -> str:
        return client.create_multipart_upload(Bucket=self._bucket.name, Key=self._target)["UploadId"]

    def _copy_part(self, client: S3Client, number: int, first: int, last: int) -> dict[str, object]:
        answer = client.upload_part_copy(
            Bucket=self._bucket.name,
            Key=self._target,
            UploadId=self._upload_id,
            PartNumber=number,
            CopySource={"Bucket": self._bucket.name, "Key": self._source},
            CopySourceRange=f"bytes={first}-{last}",
        )
        return {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}

    def _complete(self, client: S3Client, _stop: threading.Event) -> None:
        client.complete_multipart_upload(
            Bucket=self._bucket.name,
            Key=self._target,
            UploadId=self._upload_id,
            MultipartUpload={"Parts": self._parts},
        )

    def _abort(self, client: S3Client, _stop: threading.Event) -> None:
        client.abort_multipart_upload(Bucket=self._bucket.name, Key=self._target, UploadId=self._upload_id)
