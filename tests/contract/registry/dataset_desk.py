"""Datasets for tests: small archives with real images, and the steps that many tests share."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

from lathe.registry.v1.dataset_service_pb2 import (
    DATASET_STATE_IMPORTING,
    DATASET_STATE_READY,
    CreateDatasetExportRequest,
    CreateDatasetRequest,
    Dataset,
    DatasetExport,
    DatasetState,
    DeriveDatasetRequest,
    GetDatasetRequest,
    ListDatasetItemsRequest,
    WatchDatasetExportRequest,
)
from lathe.type.v1.digest_pb2 import File

from services.platform.words import from_values, word
from tests.contract.registry.conftest import Registry, unique
from tests.eventually import PATIENCE_SECONDS


def png(shade: int, width: int = 12, height: int = 8) -> bytes:
    """Return a small image; another shade is another image."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (shade % 256, shade // 256 % 256, 40)).save(buffer, "PNG")
    return buffer.getvalue()


def archive(files: Mapping[str, bytes]) -> bytes:
    """Return a zip file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        for path, data in files.items():
            packed.writestr(path, data)
    return buffer.getvalue()


def image_folder(classes: Sequence[str] = ("cat", "dog"), each: int = 2, first: int = 0) -> bytes:
    """Return an archive with a folder of images per class."""
    return archive(
        {
            f"{name}/{number}.png": png(first + 100 * place + number)
            for place, name in enumerate(classes)
            for number in range(each)
        }
    )


def scenes(count: int = 6, first: int = 0) -> bytes:
    """Return an archive of images with boxes and attributes, in annotations.jsonl."""
    lines = [
        {
            "image": f"images/{number}.png",
            "classifications": {"kind": "even" if number % 2 == 0 else "odd"},
            "boxes": [{"label": "car" if number % 3 else "truck", "x": 1, "y": 2, "width": 5, "height": 4}],
            "attributes": {"scene": "night" if number < 2 else "day"},
        }
        for number in range(count)
    ]
    files = {f"images/{number}.png": png(first + number) for number in range(count)}
    text = "".join(json.dumps(line) + "\n" for line in lines)
    return archive({"annotations.jsonl": text.encode(), **files})


class Desk:
    """Creates datasets and waits for them."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.datasets = registry.datasets

    async def begin(self, data: bytes, *, accept_mismatches: bool = False, **fields: Any) -> Dataset:
        """Upload an archive and create a dataset from it."""
        file = await self.registry.file("data.zip", data)
        return await self._begin([file], accept_mismatches=accept_mismatches, **fields)

    async def from_files(self, files: Sequence[File], **fields: Any) -> Dataset:
        """Create a dataset from stored files and wait until it is READY."""
        return _ready(await self.settled(await self._begin(files, accept_mismatches=False, **fields)))

    async def _begin(self, files: Sequence[File], *, accept_mismatches: bool, **fields: Any) -> Dataset:
        dataset = from_values({"display_name": unique("Data"), **fields}, Dataset(files=files))
        request = CreateDatasetRequest(dataset=dataset, accept_mismatches=accept_mismatches)
        made: Dataset = await self.datasets.CreateDataset(request)
        return made

    async def settled(self, dataset: Dataset) -> Dataset:
        """Wait until the import of a dataset goes on no more."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while dataset.state == DATASET_STATE_IMPORTING:
                await asyncio.sleep(0.05)
                dataset = await self.datasets.GetDataset(GetDatasetRequest(name=dataset.name))
        return dataset

    async def create(self, data: bytes, **fields: Any) -> Dataset:
        """Create a dataset and wait until its import goes on no more."""
        return await self.settled(await self.begin(data, **fields))

    async def ready(self, data: bytes, **fields: Any) -> Dataset:
        """Create a dataset that is READY."""
        return _ready(await self.create(data, **fields))

    async def derived(self, sources: Sequence[Dataset], *steps: Mapping[str, Any]) -> Dataset:
        """Derive a dataset and wait for it."""
        values = {"derivation": {"sources": [source.name for source in sources], "steps": list(steps)}}
        dataset = from_values({"display_name": unique("Data"), **values}, Dataset())
        return await self.settled(await self.datasets.DeriveDataset(DeriveDatasetRequest(dataset=dataset)))

    async def exported(self, dataset: Dataset) -> DatasetExport:
        """Export a dataset and wait for the archive."""
        begun = await self.datasets.CreateDatasetExport(CreateDatasetExportRequest(parent=dataset.name))
        watching = self.datasets.WatchDatasetExport(WatchDatasetExportRequest(name=begun.name))
        *_, ended = [export async for export in watching]
        return ended

    async def items(self, dataset: Dataset, wanted: str = "") -> list[Any]:
        """Return every item of a dataset that passes a filter, in pages of two."""
        request = ListDatasetItemsRequest(parent=dataset.name, page_size=2, filter=wanted)
        found: list[Any] = []
        while True:
            answer = await self.datasets.ListDatasetItems(request)
            found += answer.items
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token


def _ready(dataset: Dataset) -> Dataset:
    assert dataset.state == DATASET_STATE_READY, f"{word(DatasetState, dataset.state)}: {dataset.failure}"
    return dataset
