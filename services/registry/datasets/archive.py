"""A dataset as one zip file that can be imported again: the same items give the same bytes."""

from __future__ import annotations

import asyncio
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import islice
from pathlib import Path, PurePosixPath

from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.type.v1.digest_pb2 import Digest
from lathe.type.v1.failure_pb2 import TASK_STAGE_EXECUTING, TASK_STAGE_UPLOADING_OUTPUTS

from engines.datasets.items import Item
from engines.datasets.jsonl import to_line
from services.database.pool import Database
from services.operations.runner import Standing
from services.platform.work_folders import temporary_folder
from services.registry.blobs import Blobs
from services.storage import ContentStore

ANNOTATIONS = "annotations.jsonl"
_BATCH = 64
_FETCHES = 16
# Share of the whole; the rest is the upload.
_PACKED = 0.8
# The same for every archive: the earliest time that zip files can hold.
_TIME = (1980, 1, 1, 0, 0, 0)
_FIND = "SELECT sha256, size_bytes FROM dataset_archives WHERE index_sha256 = $1"
_KEEP = "INSERT INTO dataset_archives (index_sha256, sha256, size_bytes) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"


class Archives:
    """Packs datasets; each takes the disk that its images take."""

    def __init__(self, database: Database, content: ContentStore, blobs: Blobs, folder: Path) -> None:
        self._database = database
        self._content = content
        self._blobs = blobs
        self._folder = folder

    async def find(self, dataset: Dataset) -> Digest | None:
        """Return the archive of a dataset that was packed before, or None."""
        row = await self._database.fetchrow(_FIND, dataset.index.sha256)
        if row is None:
            return None
        digest = Digest(sha256=row["sha256"], size_bytes=row["size_bytes"])
        return digest if await self._content.exists(digest) else None

    async def pack(self, dataset: Dataset, standing: Standing) -> Digest:
        """Pack a dataset and store the archive."""
        async with temporary_folder(self._folder) as folder:
            await self._content.fetch(dataset.index, folder / "index.parquet")
            items, done = _items(folder / "index.parquet"), 0
            with ExitStack() as stack:
                packer = await asyncio.to_thread(_Packer, folder, stack)
                while batch := await asyncio.to_thread(lambda: list(islice(items, _BATCH))):
                    await self._fetch(packer.new(batch), folder)
                    await asyncio.to_thread(packer.add, batch)
                    done += len(batch)
                    standing.at(TASK_STAGE_EXECUTING, _PACKED * min(done / max(dataset.item_count, 1), 1))
                await asyncio.to_thread(packer.finish)
            standing.at(TASK_STAGE_UPLOADING_OUTPUTS, _PACKED)
            digest = await self._content.put_file(packer.path)
        await self._blobs.record([digest])
        await self._database.execute(_KEEP, dataset.index.sha256, digest.sha256, digest.size_bytes)
        return digest

    async def _fetch(self, digests: Sequence[Digest], folder: Path) -> None:
        slots = asyncio.Semaphore(_FETCHES)

        async def fetch(digest: Digest) -> None:
            async with slots:
                await self._content.fetch(digest, folder / digest.sha256)

        async with asyncio.TaskGroup() as group:
            for digest in digests:
                group.create_task(fetch(digest))


class _Packer:
    """Writes one archive into a folder; blocks."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.path = folder / "archive.zip"
        self._folder = folder
        self._zip = stack.enter_context(zipfile.ZipFile(self.path, "w"))
        self._lines = stack.enter_context((folder / ANNOTATIONS).open("w", encoding="utf-8"))
        # Path in the archive → digest of its content.
        self._taken: dict[str, bytes] = {}

    def new(self, items: Sequence[Item]) -> list[Digest]:
        """Return the blobs that must be in the folder, under their SHA-256, before these items are added."""
        missing = {item.sha256: item.size_bytes for item in items if self._name(item) not in self._taken}
        return [Digest(sha256=sha256, size_bytes=size) for sha256, size in missing.items()]

    def add(self, items: Sequence[Item]) -> None:
        """Add items, with the files that are not in the archive yet."""
        done = set()
        for item in items:
            name = self._name(item)
            if name not in self._taken:
                self._taken[name] = bytes.fromhex(item.sha256)
                # Images and NPZ files are compressed already.
                self._write(name, self._folder / item.sha256, zipfile.ZIP_STORED)
                done.add(item.sha256)
            self._lines.write(to_line(replace(item, path=name)) + "\n")
        for sha256 in done:
            (self._folder / sha256).unlink()

    def finish(self) -> None:
        """Add the annotations, and complete the archive."""
        self._lines.close()
        self._write(ANNOTATIONS, self._folder / ANNOTATIONS, zipfile.ZIP_DEFLATED)
        self._zip.close()

    def _name(self, item: Item) -> str:
        """Return the path of an item's file; files of one path, from merged datasets, get different ones."""
        folder = "images" if item.width else "tensors"
        # Nothing that unpacks the archive may be led out of its folder.
        parts = [part for part in PurePosixPath(item.path).parts if part not in ("/", "..")] or [item.sha256]
        name = "/".join(parts if parts[0] == folder and len(parts) > 1 else [folder, *parts])
        if self._taken.get(name, taken := bytes.fromhex(item.sha256)) == taken:
            return name
        return f"{folder}/{item.sha256}/{parts[-1]}"

    def _write(self, name: str, source: Path, compression: int) -> None:
        entry = zipfile.ZipInfo(name, _TIME)
        entry.compress_type = compression
        entry.external_attr = 0o644 << 16
        entry.file_size = source.stat().st_size
        with source.open("rb") as data, self._zip.open(entry, "w") as target:
            shutil.copyfileobj(data, target, 1 << 20)


def _items(path: Path) -> Iterator[Item]:
    from engines.datasets.index import iterate

    return iterate(path)
