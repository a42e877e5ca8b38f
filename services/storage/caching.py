"""A folder that keeps recently fetched files, in front of a slower store."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from lathe.type.v1.digest_pb2 import Digest

from services.storage.hashing import blocks_of, hash_blocks
from services.storage.store import ContentStore

__all__ = ["CachingStore"]

# The share of the limit that a process adds before it measures the folder again: measuring reads every entry, and a
# dataset is fetched as many small files.
UNSEEN_PART = 0.01
# Longer than any fetch takes: an older file was left by a process that died.
PARTIAL_SECONDS = 24 * 3600


class CachingStore:
    """Keeps fetched files in a folder of bounded size and drops those that were used longest ago.

    Several processes may share the folder: entries appear by rename, and room is made under a lock. Each process may
    exceed the limit by UNSEEN_PART of it. Entries are copied out, never linked, so that nobody can change an entry by
    changing a copy; and verified on the way, so that a damaged entry is fetched again.
    """

    def __init__(self, store: ContentStore, folder: Path, limit_bytes: int) -> None:
        self._store = store
        self._folder = folder
        self._limit = limit_bytes
        self._room = 0.0

    async def exists(self, digest: Digest) -> bool:
        """Return whether the store has these bytes."""
        return await self._store.exists(digest)

    async def find(self, sha256: str) -> Digest | None:
        """Return the digest of stored bytes of which only the SHA-256 is known, or None."""
        return await self._store.find(sha256)

    async def put_file(self, path: Path) -> Digest:
        """Store a file; it is not kept in the folder."""
        return await self._store.put_file(path)

    async def put_bytes(self, data: bytes) -> Digest:
        """Store bytes; they are not kept in the folder."""
        return await self._store.put_bytes(data)

    async def presigned_get(self, digest: Digest, file_name: str, expires: timedelta) -> str:
        """Return a URL from which the bytes can be read."""
        return await self._store.presigned_get(digest, file_name, expires)

    async def read(self, digest: Digest) -> bytes:
        """Return bytes from the store; small reads are not worth a file."""
        return await self._store.read(digest)

    async def fetch(self, digest: Digest, path: Path) -> None:
        """Write bytes to a file, from the folder if they are there."""
        entry = self._folder / digest.sha256
        if await asyncio.to_thread(_copy_verified, entry, digest, path):
            return
        if digest.size_bytes > self._limit:
            await self._store.fetch(digest, path)
            return
        await self._store.fetch(digest, path)
        # If the disk is full, the fetch succeeds without an entry.
        with suppress(OSError):
            await asyncio.to_thread(self._admit, path, entry, digest.size_bytes)

    def _admit(self, path: Path, entry: Path, size: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = self._folder / f"{uuid.uuid4().hex}.partial"
        try:
            shutil.copyfile(path, partial)
            with self._locked():
                self._make_room(size)
                partial.replace(entry)
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        if size < self._room:
            self._room -= size
            return
        files = [(status.st_mtime, status.st_size, path) for path, status in _files(self._folder)]
        entries = sorted(item for item in files if item[2].suffix != ".partial")
        used = sum(each for _, each, _ in entries)
        unseen = self._limit * UNSEEN_PART
        if used + size > self._limit:
            for _, each, path in entries:
                if used + size <= self._limit - unseen:
                    break
                path.unlink(missing_ok=True)
                used -= each
        self._room = min(self._limit - used - size, unseen)
        for changed, _, path in files:
            if path.suffix == ".partial" and changed < time.time() - PARTIAL_SECONDS:
                path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed, also by death
            yield


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    for item in os.scandir(folder):
        if item.name != ".lock":
            try:
                yield Path(item.path), item.stat()
            except FileNotFoundError:
                continue  # another process made room


def _copy_verified(entry: Path, digest: Digest, path: Path) -> bool:
    """Copy an entry and return True, if it exists and is right; a damaged one is removed."""
    if not entry.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        with entry.open("rb", buffering=0) as source, partial.open("wb") as target:
            found = hash_blocks(blocks_of(source), target.write)
        if found != digest:
            entry.unlink(missing_ok=True)
            return False
        partial.replace(path)
        with suppress(FileNotFoundError):
            os.utime(entry)  # used just now
        return True
    except FileNotFoundError:
        return False  # another process made room
    finally:
        partial.unlink(missing_ok=True)
