"""Folders of the bucket whose files are copies of stored bytes, made inside the store, never through this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING

from lathe.type.v1.digest_pb2 import Digest, File

from services.platform.settings import Settings
from services.storage.bucket import Bucket
from services.storage.copying import copy
from services.storage.keys import content_key

if TYPE_CHECKING:
    from minio import Minio

__all__ = ["OWN_PREFIXES", "Folders"]

OWN_PREFIXES = ("cas", "staging", "triton")
"""First parts of the keys that have a meaning for Lathe: stored bytes, open uploads, repositories of releases."""

_COPIES_AT_ONCE = 4


class Folders:
    """Copies into folders, and removes from them. A copy appears whole or not at all."""

    def __init__(self, settings: Settings) -> None:
        self._bucket = Bucket.of(settings)

    def uri(self, folder: str) -> str:
        """Return the address of a folder: `s3://{bucket}/{folder}`."""
        return f"s3://{self._bucket.name}/{folder}"

    async def copy(
        self,
        folder: str,
        files: Iterable[File],
        *,
        missing_only: bool,
        on_copied: Callable[[File], None] = lambda _file: None,
    ) -> None:
        """Copy files from their digests to their paths in a folder.

        Files of the same subfolder are copied in their order, so that a file can come after those that it needs.

        Args:
            folder: Where to.
            files: Paths in the folder, with digests of stored bytes.
            missing_only: Skips files that are there in the right size.
            on_copied: Called with each file that is there.
        """
        groups: dict[str, list[File]] = {}
        for file in files:
            groups.setdefault(file.path.rpartition("/")[0], []).append(file)
        slots = asyncio.Semaphore(_COPIES_AT_ONCE)

        async def one_group(inside: list[File]) -> None:
            for file in inside:
                async with slots:
                    work = partial(
                        self._copy, digest=file.digest, key=f"{folder}/{file.path}", missing_only=missing_only
                    )
                    await self._bucket.run(work)
                on_copied(file)

        async with asyncio.TaskGroup() as group:
            for inside in groups.values():
                group.create_task(one_group(inside))

    async def sweep(
        self, folder: str, keep: Collection[str], order: Callable[[str], object] = lambda path: path
    ) -> None:
        """Remove everything in a folder but the paths to keep, in the order of a sort key of their paths."""
        prefix = f"{folder}/"

        def remove(client: Minio, _stop: object) -> None:
            found = (str(each.object_name).removeprefix(prefix) for each in self._bucket.objects(prefix))
            extra = {path for path in found if path not in keep}
            for path in sorted(extra, key=order):  # type: ignore[arg-type]  # whatever it returns can be compared
                client.remove_object(self._bucket.name, prefix + path)

        await self._bucket.run(remove)

    def _copy(self, client: Minio, _stop: object, *, digest: Digest, key: str, missing_only: bool) -> None:
        if missing_only and self._bucket.size(key) == digest.size_bytes:
            return
        copy(client, self._bucket.name, content_key(digest), key, digest.size_bytes)
