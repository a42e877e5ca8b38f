"""One item to look at: its image, and the image with its annotations drawn."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from datetime import timedelta
from pathlib import Path, PurePosixPath

from lathe.registry.v1.dataset_service_pb2 import Dataset, DatasetItemPreview
from lathe.type.v1.digest_pb2 import Digest

from engines.datasets.items import Item
from engines.datasets.jsonl import to_line
from engines.failures import EngineFailure, FailureReason
from engines.sandbox import Child, Limits
from services.platform.errors import failed_precondition
from services.platform.work_folders import temporary_folder
from services.registry.datasets.contents import Contents
from services.registry.datasets.items import Items, message_of
from services.storage import ContentStore

LIMITS = Limits(memory_bytes=2 << 30, timeout_seconds=60)
DRAW = "engines.datasets.preview:run"
_AT_ONCE = 2
_REMEMBERED = 1000
_URL_LIFETIME = timedelta(hours=6)


class Previews:
    """Draws items, each in a sandboxed child: an image is a stranger's file."""

    def __init__(self, items: Items, content: ContentStore, contents: Contents, folder: Path) -> None:
        self._items = items
        self._content = content
        self._contents = contents
        self._folder = folder
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._drawn: OrderedDict[tuple[str, int], Digest] = OrderedDict()

    async def preview(self, name: str) -> DatasetItemPreview:
        """Return an item with URLs of its image and of the image with annotations; of tensors the JSON form alone.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION, reason DATASET_NOT_READY, or ITEM_NOT_DRAWN for an image that
                takes too much memory or time.
        """
        dataset, number, item = await self._items.item(name)
        preview = DatasetItemPreview(item=message_of(dataset.name, number, item), json=to_line(item))
        if item.width:
            image = Digest(sha256=item.sha256, size_bytes=item.size_bytes)
            path = PurePosixPath(item.path)
            drawn = await self._annotated(dataset, number, item, image)
            preview.image_url = await self._content.presigned_get(image, path.name, _URL_LIFETIME)
            annotated = f"{path.stem}-annotated.png"
            preview.annotated_url = await self._content.presigned_get(drawn, annotated, _URL_LIFETIME)
        return preview

    async def _annotated(self, dataset: Dataset, number: int, item: Item, image: Digest) -> Digest:
        key = (dataset.index.sha256, number)
        async with self._slots:
            drawn = self._drawn.get(key) or await self._draw(dataset, number, item, image)
        self._drawn[key] = drawn
        self._drawn.move_to_end(key)
        while len(self._drawn) > _REMEMBERED:
            self._drawn.popitem(last=False)
        return drawn

    async def _draw(self, dataset: Dataset, number: int, item: Item, image: Digest) -> Digest:
        try:
            async with temporary_folder(self._folder) as workdir:
                async with await Child.spawn(workdir, ["PIL.ImageDraw"]) as child:
                    await self._content.fetch(image, workdir / "image.bin")
                    await child.run(DRAW, {"image": "image.bin", "item": item.to_dict()}, LIMITS)
                return await self._contents.put(workdir / "out" / "annotated.png")
        except EngineFailure as failure:
            if failure.reason is FailureReason.INTERNAL_ERROR:
                raise
            raise failed_precondition(
                "ITEM_NOT_DRAWN",
                f"'{dataset.name}/items/{number}' ({item.path}) cannot be drawn: {failure.message}",
                subject=f"{dataset.name}/items/{number}",
            ) from failure
