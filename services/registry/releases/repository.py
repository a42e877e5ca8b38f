"""The model repositories in the bucket: one folder per channel, from which Triton loads.

    triton/{model}/{channel}/{triton model}/config.pbtxt        written last: the switch
    triton/{model}/{channel}/{triton model}/{release number}/…  copied inside the store, never through this process

A copy appears whole or not at all (`services.common.storage.copying`), and a configuration names the one version that
it serves, so that nothing is seen half: until the configuration is written, Triton serves what it served before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from lathe.type.v1.digest_pb2 import Digest, File

from services.common.settings import Settings
from services.common.storage.bucket import Bucket
from services.common.storage.copying import PART_BYTES, PendingCopy
from services.common.storage.s3_store import content_key, stored_size
from services.registry.releases.layout import is_config

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

_COPIES_AT_ONCE = 4


class ModelRepositories:
    """Copies, switches and sweeps. A channel is named `models/{model}/channels/{channel}`."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = Bucket.of(settings)

    def uri(self, channel: str) -> str:
        """Return `s3://{bucket}/triton/{model}/{channel}`: what Triton is given as its model repository."""
        return f"s3://{self._bucket.name}/{_folder(channel)}"

    async def copy(self, channel: str, files: Iterable[File], *, missing_only: bool) -> None:
        """Copy files from their digests to their places, configurations left out.

        Files of one folder are copied in their order, so that what a backend opens comes after what it reads with it.

        Args:
            channel: Whose repository.
            files: Paths in the repository, with digests of stored bytes.
            missing_only: Leaves alone what is there in its size.
        """
        folders: dict[str, list[File]] = {}
        for file in files:
            if not is_config(file.path):
                folders.setdefault(file.path.rpartition("/")[0], []).append(file)
        slots = asyncio.Semaphore(_COPIES_AT_ONCE)

        async def one_folder(inside: list[File]) -> None:
            for file in inside:
                async with slots:
                    key = f"{_folder(channel)}/{file.path}"
                    if not (missing_only and await self._size(key) == file.digest.size_bytes):
                        await self._copy(file.digest, key)

        async with asyncio.TaskGroup() as group:
            for inside in folders.values():
                group.create_task(one_folder(inside))

    async def switch(self, channel: str, files: Iterable[File]) -> None:
        """Write the configurations among the files: from now on Triton serves what they name."""
        for file in files:
            if is_config(file.path):
                await self._copy(file.digest, f"{_folder(channel)}/{file.path}")

    async def sweep(self, channel: str, keep: Collection[str]) -> None:
        """Remove everything but the paths to keep; configurations first, so that no model loses its files before."""
        prefix = f"{_folder(channel)}/"
        found = await self._bucket.run(lambda client, _: self._keys(client, prefix))
        extra = [key for key in found if key.removeprefix(prefix) not in keep]
        for key in sorted(extra, key=lambda key: (not is_config(key), key)):
            await self._remove(key)

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


def _folder(channel: str) -> str:
    _, model, _, name = channel.split("/")
    return f"triton/{model}/{name}"
