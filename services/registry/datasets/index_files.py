"""Indexes as files of this machine: fetched once, read in a thread, dropped when others need the room."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from lathe.type.v1.digest_pb2 import Digest

from engines.failures import EngineFailure
from services.storage import ContentStore

P = ParamSpec("P")
T = TypeVar("T")

# Another process that shares the folder may drop a file between the look and the reading.
_TRIES = 3


class IndexFiles:
    """A folder of indexes. Unlike `CachingStore` it reads in place: an index may be large, and its readers are ours."""

    def __init__(self, content: ContentStore, folder: Path, limit_bytes: int) -> None:
        """Keep at most `limit_bytes` of what `content` holds in `folder`."""
        self._content = content
        self._folder = folder
        self._limit = limit_bytes
        self._fetching: dict[str, asyncio.Lock] = {}

    async def read(
        self, index: Digest, reader: Callable[Concatenate[Path, P], T], *args: P.args, **more: P.kwargs
    ) -> T:
        """Return what `reader(path, …)` makes of an index, in a thread.

        Raises:
            LatheError: NOT_FOUND or DATA_LOSS if the store does not have it.
        """
        for last in [False] * (_TRIES - 1) + [True]:
            path = await self._path(index)
            try:
                return await asyncio.to_thread(reader, path, *args, **more)
            except (OSError, EngineFailure):
                if last or path.exists():
                    raise
        raise AssertionError("unreachable")

    async def _path(self, index: Digest) -> Path:
        path = self._folder / f"{index.sha256}.parquet"
        if not _touch(path):
            async with self._fetching.setdefault(index.sha256, asyncio.Lock()):
                if not _touch(path):
                    await self._content.fetch(index, path)
                    await asyncio.to_thread(self._make_room, path)
            self._fetching.pop(index.sha256, None)
        return path

    def _make_room(self, newest: Path) -> None:
        found = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(FileNotFoundError):
                status = entry.stat()
                found.append((status.st_mtime, status.st_size, Path(entry.path)))
        used = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if used <= self._limit:
                break
            if path != newest and path.suffix == ".parquet":
                path.unlink(missing_ok=True)
                used -= size


def _touch(path: Path) -> bool:
    """Note that a file was used just now; False if there is none."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True
