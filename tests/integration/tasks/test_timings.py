"""What builders have timed goes from one task of an owner to the next; a stand-in plays the runtime that keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.internal.v1.timings_pb2 import KeptTimings
from lathe.type.v1 import task_pb2

from services.bus.topology import TIMINGS
from services.platform.identity import acting_as
from services.platform.settings import Settings
from services.storage import S3ContentStore
from services.tasks.worker.timings import MOST_BYTES
from tests.integration.tasks.kit import DEVICE, KEEPER, Site, open_site

ANN, BEN = "users/ann", "users/ben"
NEW = "began with "


@pytest.fixture
async def site(settings: Settings, tmp_path: Path) -> AsyncIterator[Site]:
    """A site with the real object store, whose worker has the stand-in."""
    async with open_site(settings, tmp_path) as site:
        site.workers_blobs = S3ContentStore(settings)
        site.kind.owned = True
        await site.start_worker(timings={KEEPER: "1.0+cu13"})
        yield site


async def ended(site: Site, owner: str, seed: int, behaviour: str = "time") -> pb.ConversionTask:
    """Return a task of an owner that is done."""
    with acting_as(owner):
        task = await site.create(behaviour, seed=seed)
        return await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)


async def keys(site: Site) -> list[str]:
    return await (await site.bus.js.key_value(TIMINGS)).keys()


async def kept_files(site: Site) -> int:
    bucket, (key,) = await site.bus.js.key_value(TIMINGS), await keys(site)
    return len(KeptTimings.FromString((await bucket.get(key)).value or b"").files)


async def test_a_task_begins_with_what_earlier_tasks_of_its_owner_left(site: Site) -> None:
    assert (await ended(site, ANN, 1)).result.hardware == NEW
    assert (await ended(site, ANN, 2)).result.hardware == NEW + "1;"
    assert (await ended(site, ANN, 3)).result.hardware == NEW + "1;2;"
    (key,) = await keys(site)
    assert key.endswith(f".{DEVICE}.{KEEPER}.1-0-cu13")
    assert "ann" not in key
    await site.stop_workers()
    await site.start_worker(timings={KEEPER: "1.1"})
    assert (await ended(site, ANN, 4)).result.hardware == NEW


async def test_another_owner_gets_neither_the_timings_nor_what_was_made_with_them(site: Site) -> None:
    first = await ended(site, ANN, 1)
    other = await ended(site, BEN, 1)
    assert (other.result.hardware, other.origin.cache_hit) == (NEW, "")
    assert other.origin.work_key != first.origin.work_key
    assert (await ended(site, ANN, 1)).origin.cache_hit == first.name
    assert len({key.partition(".")[0] for key in await keys(site)}) == 2


async def test_equal_work_of_two_owners_in_flight_is_done_twice(site: Site) -> None:
    tasks = []
    for owner in (ANN, BEN):
        with acting_as(owner):
            tasks.append(await site.create("time-and-wait"))
    await site.began(2)
    site.jobs.release.set()
    for task in tasks:
        await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    assert len(site.jobs.runs) == 2


async def test_a_task_whose_outcome_is_for_everybody_keeps_nothing_and_is_lent_nothing(site: Site) -> None:
    await ended(site, ANN, 1)
    site.kind.owned = False
    assert (await ended(site, ANN, 2)).result.hardware == NEW
    shared = await ended(site, BEN, 2)
    assert shared.origin.cache_hit
    site.kind.owned = True
    assert (await ended(site, ANN, 3)).result.hardware == NEW + "1;"


async def test_what_tasks_kept_at_the_same_time_is_merged_by_the_next(site: Site) -> None:
    with acting_as(ANN):
        tasks = [await site.create("time-and-wait", seed=seed) for seed in (1, 2)]
        await site.began(2)  # with what was kept before
        site.jobs.release.set()
        for task in tasks:
            await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    assert await kept_files(site) == 2
    assert sorted((await ended(site, ANN, 3)).result.hardware.removeprefix(NEW)) == sorted("1;2;")
    assert await kept_files(site) == 1


@pytest.mark.parametrize("behaviour", ["time-a-link", "time-too-much"])
async def test_what_cannot_be_kept_does_not_harm_the_task(site: Site, behaviour: str) -> None:
    await ended(site, ANN, 1)
    assert (await ended(site, ANN, 2, behaviour)).result.hardware == NEW + "1;"
    after = (await ended(site, ANN, 3)).result.hardware
    assert after == (NEW + "1;" if behaviour == "time-a-link" else NEW)


async def test_timings_that_are_gone_or_a_bucket_that_is_do_not_harm_the_task(site: Site) -> None:
    await ended(site, ANN, 1)
    bucket, (key,) = await site.bus.js.key_value(TIMINGS), await keys(site)
    gone = KeptTimings()
    gone.files.add(sha256="0" * 64, size_bytes=MOST_BYTES)
    gone.MergeFromString((await bucket.get(key)).value or b"")
    await bucket.put(key, gone.SerializeToString())
    assert (await ended(site, ANN, 2)).result.hardware == NEW + "1;"
    assert await kept_files(site) == 1
    await site.bus.js.delete_key_value(TIMINGS)
    assert (await ended(site, ANN, 3)).result.hardware == NEW
