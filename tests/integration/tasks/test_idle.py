"""A worker that ends when nothing came for a while, against real PostgreSQL and NATS."""

from __future__ import annotations

import asyncio
import random

from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.type.v1 import task_pb2

from tests.eventually import eventually
from tests.integration.tasks.kit import Site

DONE = task_pb2.TASK_STATE_SUCCEEDED


async def test_a_worker_ends_when_idle_and_not_before(site: Site) -> None:
    hanging = await site.create("hang")  # it waits for the worker, which may end before it hears of another
    worker = await site.start_worker(idle=3.0)
    await site.reach(hanging, task_pb2.TASK_STATE_RUNNING)
    await asyncio.sleep(4.0)
    assert worker.name not in site.ended
    site.jobs.release.set()
    await site.reach(hanging, DONE)
    await eventually(lambda: worker.name in site.ended and worker.name not in site.engine.workers.alive())


async def test_no_task_is_lost_that_is_sent_while_a_worker_ends(site: Site) -> None:
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    created: list[pb.ConversionTask] = []
    for _ in range(3):
        # What it has begun it also ends, so that each job runs once.
        worker = await site.start_worker(concurrency=1, idle=0.3, drain=30)
        # The first tasks come when it is about to end.
        await asyncio.sleep(chance.uniform(0.1, 0.25))
        created.append(await site.create(seed=len(created)))
        while worker.name not in site.ended:
            await asyncio.sleep(chance.choice([0.0, 0.29, 0.3, 0.31, 0.33, 0.36]))
            created.append(await site.create(seed=len(created)))
    await site.start_worker()
    for task in created:
        ended = await site.reach(task, DONE)
        outcomes = [attempt.outcome for attempt in ended.attempts]
        *given_back, last = outcomes
        assert last == task_pb2.ATTEMPT_OUTCOME_SUCCEEDED, f"seed {seed}"
        assert set(given_back) <= {task_pb2.ATTEMPT_OUTCOME_RETURNED}, f"seed {seed}"
    assert len(site.jobs.runs) == len(created), f"seed {seed}"
