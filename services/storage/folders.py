"""Folders of the bucket whose files are copies of stored bytes, made inside the store, never through this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from lathe.type.v1.digest_pb2 import Digest, File

from services.platform.settings import Settings
from services.storage.bucket import Bucket
from services.storage.copying import PART_BYTES, PendingCopy
from services.storage.s3_store import content_key, stored_size

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

__all__ = ["OWN_PREFIXES", "Folders"]

OWN_PREFIXES = ("cas", "staging", "triton")
"""First parts of the keys that Lathe gives a meaning: stored bytes, uploads under way, repositories of releases."""

_COPIES_AT_ONCE = 4


class Folders:
    """Copies into folders, and removes from them. A copy appears whole or not at all."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = Bucket.of(settings)

    def uri(self, folder: str) -> str:
        """Return the address of a folder: `s3://{bucket}/{folder}`."""
        return f"s3://{self._bucket.name}/{folder}"

    async def copy(self, folder: str, files: Iterable[File], *, missing_only: bool) -> None:
        """Copy files from their digests to their paths in a folder.

        Files beside each other are copied in their order, so that what is opened can come after what is read with it.

        Args:
            folder: Where to.
            files: Paths in the folder, with digests of stored bytes.
            missing_only: Leaves alone what is there in its size.
        """
        groups: dict[str, list[File]] = {}
        for file in files:
            groups.setdefault(file.path.rpartition("/")[0], []).append(file)
        slots = asyncio.Semaphore(_COPIES_AT_ONCE)

        async def one_group(inside: list[File]) -> None:
            for file in inside:
                async with slots:
                    key = f"{folder}/{file.path}"
                    if not (missing_only and await self._size(key) == file.digest.size_bytes):
                        await self._copy(file.digest, key)

        async with asyncio.TaskGroup() as group:
            for inside in groups.values():
                group.create_task(one_group(inside))

    async def sweep(
        self, folder: str, keep: Collection[str], order: Callable[[str], object] = lambda path: path
    ) -> None:
        """Remove everything in a folder but the paths to keep, in the order of a sort key of their paths."""
        prefix = f"{folder}/"
        found = await self._bucket.run(lambda client, _: self._keys(client, prefix))
        extra = {path for path in (key.removeprefix(prefix) for key in found) if path not in keep}
        for path in sorted(extra, key=order):  # type: ignore[arg-type]  # whatever it returns can be compared
            await self._remove(prefix + path)

    async def _remove(self, key: str) -> None:
        await self._bucket.run(lambda client, _: client.delete_object(Bucket=self._bucket.name, Key=key))

    async def _size(self, key: str) -> int | None:
        return await self._bucket.run(lambda client, _: stored_size(client, self._bucket.name, key))

    async def _copy(self, digest: Digest, key: str) -> None:
        source = content_key(digest)
        if digest.size_bytes <= PART_BYTES:
            await self._bucket.run(lambda client, _: self._copy_whole(client, source, key))
            return
        async with PendingCopy(self._bucket, source, key, digest.size_bytes) as pending:
            await pending.transfer()
            await pending.complete()

    def _copy_whole(self, client: S3Client, source: str, key: str) -> None:
        name = self._bucket.name
        client.copy_object(Bucket=name, Key=key, CopySource={"Bucket": name, "Key": source})

    def _keys(self, client: S3Client, prefix: str) -> list[str]:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket.name, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]
