"""Storing what an import unpacked: images and tensors, each a file named by its digest."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from lathe.type.v1.digest_pb2 import Digest

from engines.failures import EngineFailure, FailureReason
from services.registry.blobs import Blobs
from services.storage import ContentStore
from services.tasks.worker.blobs import patiently

_BATCH = 1000
_AT_ONCE = 16
_SHA256 = re.compile(r"[0-9a-f]{64}")

OnStored = Callable[[int], None]
"""Called with the number of files stored so far."""


class Contents:
    """Stores folders of content."""

    def __init__(self, content: ContentStore, blobs: Blobs) -> None:
        self._content = content
        self._blobs = blobs

    async def store(self, folder: Path, on_stored: OnStored) -> int:
        """Store every file of a folder that untrusted code wrote, and return the number of those that were there.

        Raises:
            EngineFailure: UNSAFE_MODEL for a link, INTERNAL_ERROR for a file that is not what its name says,
                INFRASTRUCTURE if the store does not answer.
        """
        stored = shared = 0
        files = _files(folder)
        while batch := await asyncio.to_thread(lambda: list(islice(files, _BATCH))):
            known = await self._blobs.known(batch)
            new = [digest for digest in batch if (digest.sha256, digest.size_bytes) not in known]
            await self._put(folder, new)
            await self._blobs.record(new)
            stored, shared = stored + len(batch), shared + len(batch) - len(new)
            on_stored(stored)
        return shared

    async def put(self, path: Path) -> Digest:
        """Store one file that untrusted code wrote, and remember it. Raises as `store` does."""
        _require_file(path)
        digest = await patiently(lambda: self._content.put_file(path), path.name)
        await self._blobs.record([digest])
        return digest

    async def _put(self, folder: Path, digests: list[Digest]) -> None:
        waiting = iter(digests)

        async def work() -> None:
            for digest in waiting:
                path = folder / digest.sha256
                found = await patiently(lambda path=path: self._content.put_file(path), path.name)  # type: ignore[misc]
                if found != digest:
                    raise EngineFailure(
                        FailureReason.INTERNAL_ERROR,
                        f"The import wrote a file named {digest.sha256} that has the digest {found.sha256}.",
                    )

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(_AT_ONCE, len(digests))):
                    group.create_task(work())
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None


def _files(folder: Path) -> Iterator[Digest]:
    if not folder.exists():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if not _SHA256.fullmatch(entry.name):
                raise EngineFailure(
                    FailureReason.INTERNAL_ERROR, f"The import wrote a file named {entry.name[:100]!r}."
                )
            yield Digest(sha256=entry.name, size_bytes=_require_file(Path(entry.path)))


def _require_file(path: Path) -> int:
    """Return the size of a file; a link could name a file of the registry itself."""
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise EngineFailure(
            FailureReason.UNSAFE_MODEL, f"The import left a link or a device at {path.name}, not a file."
        )
    return status.st_size
