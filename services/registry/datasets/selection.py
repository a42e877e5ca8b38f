"""Choosing items, and storing the choice as workers fetch it."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path

from lathe.internal.v1.registry_service_pb2 import SelectDatasetItemsRequest
from lathe.internal.v1.selection_pb2 import DatasetSelection, FileList
from lathe.type.v1.digest_pb2 import Digest, File

from services.platform.errors import failed_precondition
from services.platform.work_folders import temporary_folder
from services.registry.blobs import Blobs
from services.registry.datasets.catalog import Catalog
from services.registry.datasets.index_files import IndexFiles
from services.storage import ContentStore

CONTENT_FOLDER = "content"
_CHUNK = 10_000


class Selections:
    """Chooses items."""

    def __init__(self, catalog: Catalog, files: IndexFiles, content: ContentStore, blobs: Blobs, folder: Path) -> None:
        """Work in folders inside `folder`."""
        self._catalog = catalog
        self._files = files
        self._content = content
        self._blobs = blobs
        self._folder = folder

    async def select(self, request: SelectDatasetItemsRequest) -> DatasetSelection:
        """Store an index of the chosen items, and the list of the files that it names.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION, reason DATASET_NOT_READY or DATASET_EMPTY.
        """
        dataset = await self._catalog.ready(request.name)
        if not dataset.item_count:
            raise failed_precondition("DATASET_EMPTY", f"'{dataset.name}' has no items to choose from.", dataset.name)
        async with temporary_folder(self._folder) as folder:
            chosen, listed = folder / "index.parquet", folder / "files.pb"
            if 0 < request.count < dataset.item_count:
                items = await self._files.read(dataset.index, _choose, chosen, request.count, request.seed)
                choice = await self._content.put_file(chosen)
                await asyncio.to_thread(_write_list, chosen, listed)
            else:
                items, choice = dataset.item_count, dataset.index
                await self._files.read(dataset.index, _write_list, listed)
            files = await self._content.put_file(listed)
        await self._blobs.record([choice, files])
        return DatasetSelection(index=choice, files=files, items=items)


def _choose(path: Path, out: Path, count: int, seed: int) -> int:
    # In the thread, when first asked for: it loads Arrow.
    from engines.datasets import index

    return index.choose(path, out, count, seed)


def _write_list(chosen: Path, listed: Path) -> None:
    """Write the FileList of an index to a file, some thousand files at a time."""
    from engines.datasets import index

    waiting = index.contents(chosen)
    with listed.open("wb") as file:
        while part := list(islice(waiting, _CHUNK)):
            # Messages one after the other are one message with all their files.
            files = [
                File(path=f"{CONTENT_FOLDER}/{sha256}", digest=Digest(sha256=sha256, size_bytes=size))
                for sha256, size in part
            ]
            file.write(FileList(files=files).SerializeToString())
