"""Fetching what a task reads: single files, and the files of whole lists, into its work directory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from google.protobuf.message import DecodeError
from lathe.internal.v1.selection_pb2 import FileList
from lathe.type.v1.digest_pb2 import Digest

from engines.failures import EngineFailure, FailureReason
from services.tasks.worker.blobs import Blobs, patiently

# Large files share the network and the disk; small ones wait for answers, many at once.
TRANSFERS = 4
SMALL_TRANSFERS = 16
SMALL_BYTES = 1 << 20
MAX_PATH = 512

OnFetched = Callable[[float, str], None]
"""Takes the part that is there, from 0 to 1, and words."""


class Inputs:
    """Fetches into a work directory."""

    def __init__(self, blobs: Blobs, workdir: Path, on_fetched: OnFetched) -> None:
        self._blobs = blobs
        self._workdir = workdir
        self._on_fetched = on_fetched
        self._large = asyncio.Semaphore(TRANSFERS)
        self._small = asyncio.Semaphore(SMALL_TRANSFERS)

    async def fetch(self, files: Sequence[tuple[str, Digest]], lists: Sequence[tuple[str, Digest]]) -> None:
        """Fetch `files` (path, content), and under each folder of `lists` the files of a stored FileList.

        Raises:
            EngineFailure: INPUT_UNAVAILABLE that names the file; INVALID_SPEC for a path that leads elsewhere;
                INFRASTRUCTURE if the store does not answer.
        """
        wanted = [(path, digest) for path, digest in files]
        for folder, digest in lists:
            wanted += await self._listed(folder, digest)
        if not wanted:
            return
        targets = [(_inside(path), digest) for path, digest in wanted]
        for parent in {target.parent for target, _ in targets}:
            (self._workdir / parent).mkdir(parents=True, exist_ok=True)
        await self._fetch_all(targets)

    async def _listed(self, folder: str, digest: Digest) -> list[tuple[str, Digest]]:
        what = f"the list of the files of {folder}"
        data = await patiently(lambda: self._blobs.read(digest), what)
        try:
            files = (await asyncio.to_thread(FileList.FromString, data)).files
        except DecodeError as error:
            raise EngineFailure(FailureReason.INVALID_SPEC, f"The content of {what} is not a list of files.") from error
        return [(f"{folder}/{file.path}", file.digest) for file in files]

    async def _fetch_all(self, targets: Sequence[tuple[Path, Digest]]) -> None:
        """Fetch with a few coroutines that share one iterator: a list may have a million files."""
        total = sum(digest.size_bytes for _, digest in targets) + len(targets)
        done = count = 0

        async def work(files: Iterator[tuple[Path, Digest]]) -> None:
            nonlocal done, count
            for path, digest in files:
                await self._fetch_one(path, digest)
                done, count = done + digest.size_bytes + 1, count + 1
                self._on_fetched(done / total, f"{count} of {len(targets)} files fetched")

        files = iter(targets)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(SMALL_TRANSFERS, len(targets))):
                    group.create_task(work(files))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None

    async def _fetch_one(self, path: Path, digest: Digest) -> None:
        gate = self._small if digest.size_bytes < SMALL_BYTES else self._large
        async with gate:
            await patiently(lambda: self._blobs.fetch(digest, self._workdir / path), f"the input {path}")


def _inside(path: str) -> Path:
    """Return the path if it is one that lathe.type.v1.File allows."""
    parts = path.split("/")
    if len(path) > MAX_PATH or "\\" in path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise EngineFailure(
            FailureReason.INVALID_SPEC,
            f"The input path {path[:MAX_PATH]!r} is not inside the work directory: a path is relative, has "
            f"no empty, '.' or '..' part, and is at most {MAX_PATH} characters long.",
        )
    return Path(*parts)
