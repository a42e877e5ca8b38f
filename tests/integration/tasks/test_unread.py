"""Sources that a worker cannot read: the failure names the workers that can, and one of them may take the task."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lathe.internal.v1.event_pb2 import WorkerAnnouncement
from lathe.type.v1 import failure_pb2, task_pb2

from services.bus.topology import WORKERS, worker_key
from services.platform.background import end
from tests.eventually import eventually
from tests.integration.tasks.kit import DEVICE, Site


@asynccontextmanager
async def alive(site: Site, name: str, *formats: str) -> AsyncIterator[None]:
    """Let a worker be alive that takes nothing: it says so again and again, as all do."""
    told = WorkerAnnouncement(worker=name, kind="conversion", device=DEVICE, formats=formats)

    async def announce() -> None:
        while True:
            await site.bus.publish(f"$KV.{WORKERS}.{worker_key('conversion', DEVICE, name)}", told.SerializeToString())
            await asyncio.sleep(0.1)

    announcing = asyncio.create_task(announce())
    await eventually(lambda: name in site.engine.workers.alive())
    yield
    await end([announcing])


async def test_if_nobody_reads_a_source_the_task_fails_at_once(site: Site) -> None:
    await site.start_worker()
    async with alive(site, "other", "ONNX"):
        task = await site.reach(await site.create("detector"), task_pb2.TASK_STATE_FAILED)
    failure = task.status.failure
    assert failure.reason == failure_pb2.FAILURE_REASON_TOOLCHAIN_UNAVAILABLE
    assert failure.suggested_fix == "Install it. No live worker reads MMDETECTION."
    assert len(task.attempts) == 1


async def test_if_another_worker_reads_it_the_task_is_tried_again_and_the_worker_is_named(site: Site) -> None:
    await site.start_worker()
    async with alive(site, "reader", "MMDETECTION", "ONNX"):
        task = await site.until(await site.create("detector"), lambda found: len(found.attempts) > 1)
    assert "Live workers that read MMDETECTION: reader." in task.attempts[0].failure.suggested_fix
