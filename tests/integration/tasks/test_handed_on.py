"""What is made on a machine that is not the device, and goes on to a worker on the device; tests say who is which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.type.v1 import failure_pb2, task_pb2

from services.bus.topology import TASKS, on_device, work_consumer
from services.platform.settings import Settings
from tests.integration.tasks.kit import DEVICE, OPTIONS, PROMPT, RESENDING, Site, open_site

HANDED_ON, SUCCEEDED = task_pb2.ATTEMPT_OUTCOME_HANDED_ON, task_pb2.ATTEMPT_OUTCOME_SUCCEEDED
VERIFIED = "the device, from what was built"


def told(task: pb.ConversionTask) -> Sequence[tuple[str, int]]:
    return [(each.worker, each.outcome) for each in task.attempts]


async def built_elsewhere(site: Site, behaviour: str = "elsewhere") -> pb.ConversionTask:
    """Create a task while only a worker lives that is not the device, and let it work once one lives that is."""
    await site.start_worker(name="builder")
    task = await site.reach(await site.create(behaviour), task_pb2.TASK_STATE_RUNNING)
    await site.start_worker(name="device", here=True)
    site.jobs.release.set()
    return task


async def handed_on(site: Site, behaviour: str = "elsewhere") -> pb.ConversionTask:
    """Return a task that was handed on to a worker on the device, which is at it."""
    site.jobs.going_on.clear()
    task = await built_elsewhere(site, behaviour)
    return await site.until(task, lambda found: len(found.attempts) == 2)


async def test_a_worker_on_the_device_goes_on(site: Site) -> None:
    done = await site.reach(await built_elsewhere(site), task_pb2.TASK_STATE_SUCCEEDED)
    assert told(done) == [("builder", HANDED_ON), ("device", SUCCEEDED)]
    assert done.result.hardware == VERIFIED
    again = await site.create("elsewhere")
    assert again.origin.cache_hit == done.name
    (queue,) = (await site.engine.queues.report()).queues
    assert (queue.workers, queue.workers_on_device, queue.waiting) == (2, 1, 0)


async def test_without_one_it_ends_as_it_is(site: Site) -> None:
    site.jobs.release.set()
    await site.start_worker(name="builder")
    done = await site.reach(await site.create("elsewhere"), task_pb2.TASK_STATE_SUCCEEDED)
    assert (told(done), done.result.hardware) == ([("builder", SUCCEEDED)], "elsewhere")
    assert (await site.create("elsewhere")).origin.cache_hit == done.name
    await site.start_worker(name="device", here=True)
    verified = await site.reach(await site.create("elsewhere"), task_pb2.TASK_STATE_SUCCEEDED)
    assert not verified.origin.cache_hit  # what nobody has verified does not stand in for it


async def test_what_the_device_makes_by_itself_is_not_handed_on(site: Site) -> None:
    site.jobs.release.set()
    await site.start_worker(name="device", here=True)
    done = await site.reach(await site.create("elsewhere"), task_pb2.TASK_STATE_SUCCEEDED)
    assert told(done) == [("device", SUCCEEDED)]


async def test_a_failure_on_the_device_is_one_of_the_task(site: Site) -> None:
    failed = await site.reach(await built_elsewhere(site, "elsewhere-wrong"), task_pb2.TASK_STATE_FAILED)
    assert failed.status.failure.reason == failure_pb2.FAILURE_REASON_PARITY_FAILED
    assert told(failed) == [("builder", HANDED_ON), ("device", task_pb2.ATTEMPT_OUTCOME_FAILED)]


async def test_it_waits_for_a_worker_on_the_device_as_long_as_operators_allow(
    task_settings: Settings, tmp_path: Path
) -> None:
    async with open_site(task_settings, tmp_path, replace(RESENDING, verification_wait=600)) as site:
        site.jobs.release.set()
        await site.start_worker(name="builder")
        task = await site.until(await site.create("elsewhere"), lambda found: len(found.attempts) == 1)
        task = await site.reach(task, task_pb2.TASK_STATE_PENDING)
        assert "The worker builder, which is not the device, did its part" in task.status.pending_reason
        assert "No worker for conversion that is cpu-x86-64 lives" in task.status.pending_reason
        (queue,) = (await site.engine.queues.report()).queues
        assert (queue.waiting, queue.workers_on_device) == (1, 0)
        await site.bus.js.purge_stream(TASKS)  # a lost message is sent again, to workers on the device alone
        await site.start_worker(name="device", here=True)
        done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
        assert (told(done)[-1], done.result.hardware) == (("device", SUCCEEDED), VERIFIED)


@pytest.mark.parametrize("site", [replace(OPTIONS, verifier_lost_after=0.5)], indirect=True, ids=["impatient"])
async def test_it_ends_as_it_is_if_all_workers_on_the_device_go(site: Site) -> None:
    task = await handed_on(site)
    await site.stop_workers()
    await site.start_worker(name="builder")
    done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    returned = ("device", task_pb2.ATTEMPT_OUTCOME_RETURNED)
    assert told(done) == [("builder", HANDED_ON), returned, ("builder", SUCCEEDED)]
    assert done.result.hardware == "elsewhere"
    assert site.kind.completed == [task.name]
    await site.on_the_way(0)


async def test_another_worker_on_the_device_takes_it_over(site: Site) -> None:
    task = await handed_on(site)
    await site.stop_workers()
    await site.start_worker(name="next", here=True)
    site.jobs.going_on.set()
    done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    assert told(done)[-1] == ("next", SUCCEEDED)
    assert done.result.hardware == VERIFIED


async def test_it_can_be_cancelled_on_the_device(site: Site) -> None:
    task = await handed_on(site)
    assert (await site.cancel(task)).status.state == task_pb2.TASK_STATE_CANCELLING
    ended = await site.reach(task, task_pb2.TASK_STATE_CANCELLED)
    assert told(ended) == [("builder", HANDED_ON), ("device", task_pb2.ATTEMPT_OUTCOME_CANCELLED)]


async def test_a_follower_does_not_get_what_was_only_handed_on(site: Site) -> None:
    task = await handed_on(site)
    follower = await site.create("elsewhere")
    assert task.name in follower.status.pending_reason
    await site.cancel(task)
    await site.reach(task, task_pb2.TASK_STATE_CANCELLED)
    site.jobs.going_on.set()
    done = await site.reach(follower, task_pb2.TASK_STATE_SUCCEEDED)
    assert len(done.attempts) > 0
    assert not done.origin.cache_hit


async def test_workers_on_the_device_that_die_of_it_end_it(task_settings: Settings, tmp_path: Path) -> None:
    async with open_site(task_settings, tmp_path, replace(PROMPT, verification_wait=600)) as site:
        site.jobs.release.set()
        await site.start_worker(name="builder")
        task = await site.until(await site.create("elsewhere"), lambda found: len(found.attempts) == 1)
        consumer = work_consumer("conversion", on_device(DEVICE))
        subscription = await site.bus.js.pull_subscribe_bind(consumer, stream=TASKS)
        for _ in range(OPTIONS.max_attempts):  # each takes the message, and dies without a word
            await subscription.fetch(1, timeout=30)
        await site.start_worker(name="device", here=True)
        failed = await site.reach(task, task_pb2.TASK_STATE_FAILED)
        assert failed.status.failure.reason == failure_pb2.FAILURE_REASON_WORKER_LOST
        await site.on_the_way(0)
