"""What the registry tells of datasets and releases: to those who watch one, and in the stream of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest
from lathe.registry.v1.dataset_service_pb2 import (
    DATASET_STATE_AWAITING_CONFIRMATION,
    DATASET_STATE_IMPORT_FAILED,
    DATASET_STATE_IMPORTING,
    DATASET_STATE_READY,
    ConfirmDatasetImportRequest,
    Dataset,
    DeleteDatasetRequest,
    UpdateDatasetRequest,
    WatchDatasetRequest,
)
from lathe.watch.v1.change_pb2 import CHANGE_TYPE_CREATED, CHANGE_TYPE_DELETED, Change

from services.bus.connection import Bus
from services.bus.streams import read_after
from services.bus.topology import CHANGES, change_subject
from services.platform.settings import Settings
from tests.contract.registry.conftest import Registry
from tests.contract.registry.dataset_desk import Desk, image_folder


@pytest.fixture
async def bus(shared_settings: Settings) -> AsyncIterator[Bus]:
    bus = await Bus.connect(shared_settings.nats_url, "test")
    yield bus
    await bus.close()


@pytest.fixture
def desk(registry: Registry) -> Desk:
    return Desk(registry)


async def told(bus: Bus, kind: str, uid: str, count: int) -> list[Change]:
    """Wait for so many changes of a resource and return all there are."""
    async with asyncio.timeout(60):
        while len(found := await read_after(bus, CHANGES, change_subject(kind, uid), 0)) < count:
            await asyncio.sleep(0.05)
    return [Change.FromString(data) for _, data in found]


async def watched(registry: Registry, name: str) -> list[Dataset]:
    return [each async for each in registry.datasets.WatchDataset(WatchDatasetRequest(name=name))]


async def test_an_import_is_watched_until_it_ends(registry: Registry, desk: Desk) -> None:
    begun = await desk.begin(image_folder(first=7000))
    seen = await watched(registry, begun.name)
    assert seen[0].name == begun.name
    assert {each.state for each in seen[:-1]} <= {DATASET_STATE_IMPORTING}
    assert seen[-1].state == DATASET_STATE_READY
    assert seen[-1].classes  # whole, as GetDataset returns it
    assert await watched(registry, begun.name) == seen[-1:]


async def test_a_watch_goes_on_after_the_confirmation(registry: Registry, desk: Desk) -> None:
    mapping = {"entries": [{"task": "kind", "key": "class", "classes": ["cat"]}]}
    begun = await desk.create(image_folder(first=7100), mapping=mapping)
    assert begun.state == DATASET_STATE_AWAITING_CONFIRMATION
    news = aiter(registry.datasets.WatchDataset(WatchDatasetRequest(name=begun.name)))
    async with asyncio.timeout(60):
        seen = [await anext(news)]
        await registry.datasets.ConfirmDatasetImport(ConfirmDatasetImportRequest(name=begun.name))
        seen += [each async for each in news]
    assert (seen[0].state, seen[-1].state) == (DATASET_STATE_AWAITING_CONFIRMATION, DATASET_STATE_READY)


async def test_a_watch_of_a_failed_import_ends_and_of_a_deleted_one_breaks(registry: Registry, desk: Desk) -> None:
    failed = await desk.create(b"no archive")
    assert [each.state for each in await watched(registry, failed.name)] == [DATASET_STATE_IMPORT_FAILED]
    await registry.datasets.DeleteDataset(DeleteDatasetRequest(name=failed.name))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watched(registry, failed.name)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_the_life_of_a_dataset_is_in_the_stream(registry: Registry, desk: Desk, bus: Bus) -> None:
    made = await desk.ready(image_folder(first=7200), labels={"team": "a"})
    request = UpdateDatasetRequest(dataset=Dataset(name=made.name, description="cats"))
    request.update_mask.paths.append("description")
    await registry.datasets.UpdateDataset(request)
    await registry.datasets.DeleteDataset(DeleteDatasetRequest(name=made.name))
    changes = await told(bus, "dataset", made.uid, 4)
    assert [each.revision for each in changes] == [1, 2, 3, 4]
    assert (changes[0].type, changes[-1].type) == (CHANGE_TYPE_CREATED, CHANGE_TYPE_DELETED)
    first, ready, described, gone = (each.dataset for each in changes)
    assert (first.state, ready.state) == (DATASET_STATE_IMPORTING, DATASET_STATE_READY)
    assert (described.description, gone.description, dict(gone.labels)) == ("cats", "cats", {"team": "a"})
    assert ready.item_count == made.item_count
    assert not any(each.dataset.files or each.dataset.classes for each in changes)


async def test_a_change_that_is_taken_back_is_not_told(registry: Registry, desk: Desk, bus: Bus) -> None:
    made = await desk.ready(image_folder(first=7300))
    stale = DeleteDatasetRequest(name=made.name, etag='"stale"')
    with pytest.raises(grpc.aio.AioRpcError):
        await registry.datasets.DeleteDataset(stale)
    other = await desk.ready(image_folder(first=7400))
    await told(bus, "dataset", other.uid, 2)  # what is committed later is published later
    assert [each.revision for each in await told(bus, "dataset", made.uid, 2)] == [1, 2]
