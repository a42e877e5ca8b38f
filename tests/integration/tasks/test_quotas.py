"""Quotas of projects: one task more than may wait is refused, and one more than may run waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.registry.v1.storage_service_pb2 import TaskUsage
from lathe.type.v1 import task_pb2

from services.platform.errors import LatheError, unavailable
from services.platform.quotas import CachedQuotas, Limits, Table
from services.platform.settings import Settings
from services.tasks.api.counts import Counts
from services.tasks.state.standing import Standing
from tests.integration.tasks.kit import DEVICE, OPTIONS, Site, open_site

VISION, SPEECH = "projects/vision", "projects/speech"


@asynccontextmanager
async def limited(settings: Settings, folder: Path, limits: Limits, *, background: bool = True) -> AsyncIterator[Site]:
    """A site on which `projects/vision` has limits."""

    async def fetch() -> Table:
        return Table({VISION: limits})

    options = replace(OPTIONS, quotas=CachedQuotas(fetch))
    async with open_site(settings, folder, options, background=background) as site:
        yield site


async def test_no_more_wait_than_may_whoever_creates_them(task_settings: Settings, tmp_path: Path) -> None:
    limits = Limits(waiting_tasks=5)
    async with (
        limited(task_settings, tmp_path, limits) as one,
        limited(task_settings, tmp_path, limits, background=False) as other,
    ):
        made = await asyncio.gather(
            *(site.create(seed=seed, project=VISION) for seed in range(10) for site in (one, other)),
            return_exceptions=True,
        )
        tasks = [each for each in made if isinstance(each, pb.ConversionTask)]
        refused = [each for each in made if isinstance(each, LatheError)]
        assert (len(tasks), len(refused)) == (5, 15)
        assert {each.code for each in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert {each.reason for each in refused} == {"QUOTA_EXCEEDED"}
        told = refused[0].metadata
        assert told == {"project": VISION, "quota": "waiting_tasks", "limit": "5", "used": "5"}
        assert "waiting_tasks of projects/vision is 5" in refused[0].message
        assert refused[0].retry_after
        await other.create(seed=99, project=SPEECH)  # others have their own
        await one.cancel(tasks[0])
        await one.create(seed=100, project=VISION)  # there is room again
        with pytest.raises(LatheError, match="waiting_tasks"):
            await other.create(seed=101, project=VISION)


async def test_what_runs_does_not_count_as_waiting(task_settings: Settings, tmp_path: Path) -> None:
    async with limited(task_settings, tmp_path, Limits(waiting_tasks=1)) as site:
        await site.start_worker()
        for seed in range(3):
            task = await site.create("hang", seed=seed, project=VISION)
            await site.reach(task, task_pb2.TASK_STATE_RUNNING)
        site.jobs.release.set()


async def test_no_more_run_than_may_and_others_pass(task_settings: Settings, tmp_path: Path) -> None:
    async with limited(task_settings, tmp_path, Limits(running_tasks=2)) as site:
        await site.start_worker(concurrency=8)
        mine = [await site.create("hang", seed=seed, project=VISION) for seed in range(6)]
        others = [await site.create("hang", seed=seed, project=SPEECH) for seed in range(10, 13)]
        for task in others:
            await site.reach(task, task_pb2.TASK_STATE_RUNNING)
        for task in mine[:2]:
            await site.reach(task, task_pb2.TASK_STATE_RUNNING)
        await site.began(5)
        await asyncio.sleep(3 * OPTIONS.relay_poll)
        states = [(await site.get(task)).status.state for task in mine]
        assert states == [task_pb2.TASK_STATE_RUNNING] * 2 + [task_pb2.TASK_STATE_PENDING] * 4
        assert len(site.jobs.runs) == 5
        # What waits for the quota needs no worker: no pod starts for it.
        standing = Standing(site.database)
        limits = Table({VISION: Limits(running_tasks=2)})
        assert (await standing.wanted(limits), await standing.wanted(Table())) == ({DEVICE: 5}, {DEVICE: 9})
        assert await standing.wanted(Table({VISION: Limits(running_tasks=3)})) == {DEVICE: 6}
        counts = await Counts("conversion", standing)([VISION, SPEECH, "projects/x"])
        assert counts == {
            VISION: TaskUsage(kind="conversion", pending=4, running=2, dispatched=2),
            SPEECH: TaskUsage(kind="conversion", running=3, dispatched=3),
        }
        site.jobs.release.set()
        for task in mine:
            await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)


async def test_what_was_known_goes_on_if_the_registry_is_away() -> None:
    answers: list[Table | Exception] = [
        Table({VISION: Limits(waiting_tasks=3)}),
        unavailable("registry", "away"),
        OSError("the registry's own database is away"),
    ]

    async def fetch() -> Table:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    quotas = CachedQuotas(fetch)
    for _ in range(3):
        assert (await quotas.of(VISION)).waiting_tasks == 3
        assert await quotas.of(SPEECH) == Limits()
        quotas._kept._answers.clear()
    assert not answers
