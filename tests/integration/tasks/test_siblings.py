"""Siblings that are away, hang or fail while a result is recorded: the work is kept, and no other task waits."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import asyncpg
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.type.v1 import failure_pb2, task_pb2
from urllib3.exceptions import MaxRetryError

from services.bus.topology import EVENTS, TASKS
from services.platform.errors import unavailable
from services.platform.interceptors import deadline
from services.tasks.api import completion
from services.tasks.api.completion import MAX_FAULTS
from services.tasks.api.sweeper import Sweeper
from tests.eventually import eventually
from tests.integration.tasks.kit import RESENDING, Site

SWEPT = replace(RESENDING, stalled_after=2.0)
swept = pytest.mark.parametrize("site", [SWEPT], indirect=True, ids=["swept"])


async def unrecorded(site: Site) -> pb.ConversionTask:
    """Return a task whose work is done, while its result cannot be recorded and what its worker said is lost."""
    site.kind.answers = [unavailable("registry", "The registry does not answer.")] * 1000
    await site.start_worker()
    task = await site.until(
        await site.create("ok"), lambda found: found.status.stage == failure_pb2.TASK_STAGE_REGISTERING
    )
    await site.stop_workers()
    await site.bus.js.purge_stream(EVENTS)
    return task


@swept
async def test_work_that_is_done_is_never_repeated_for_a_sibling_that_is_away(site: Site) -> None:
    task = await unrecorded(site)
    await asyncio.sleep(SWEPT.stalled_after + 2 * SWEPT.sweep_every)  # as long as a stalled task is given
    site.kind.answers.clear()
    done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    assert len(done.attempts) == 1
    assert site.jobs.runs == ["ok"]


@swept
async def test_a_sibling_that_hangs_holds_up_its_own_tasks_alone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    task = await unrecorded(site)
    asked, answers = asyncio.Event(), asyncio.Event()

    async def hang(_task: Message, _outcome: Message, _work: AnyMessage) -> Message:
        asked.set()
        await answers.wait()
        return pb.ConversionResult(hardware="at last")

    monkeypatch.setattr(site.kind, "complete", hang)
    async with asyncio.timeout(60):
        await asked.wait()
    lost = await site.create("hang", seed=1)
    await site.on_the_way(1)
    await site.bus.js.purge_stream(TASKS)
    await site.start_worker()
    await site.reach(lost, task_pb2.TASK_STATE_RUNNING)  # the sweep sent it again
    answers.set()
    assert (await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)).result.hardware == "at last"


@swept
async def test_a_sibling_that_is_away_keeps_no_lost_task_from_being_found(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_name: str, _spec: Message) -> None:
        raise unavailable("registry", "The registry does not answer.")

    await site.start_worker()
    with monkeypatch.context() as outage:
        outage.setattr(site.kind, "release", away)
        held = await site.create("ok", model_version="models/m/versions/held")
        await site.reach(held, task_pb2.TASK_STATE_SUCCEEDED)
        await site.stop_workers()
        lost = await site.create("ok", seed=1)
        await site.on_the_way(1)
        await site.bus.js.purge_stream(TASKS)
        await site.start_worker()
        await site.reach(lost, task_pb2.TASK_STATE_SUCCEEDED)
        assert site.kind.holding == {held.name}
    await eventually(lambda: not site.kind.holding)


async def test_what_a_creation_held_is_released_though_the_call_is_out_of_time(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[str] = []
    left: list[float | None] = []

    async def hang(task_name: str, _spec: Message) -> bool:
        held.append(task_name)
        site.kind.holding.add(task_name)
        await asyncio.Event().wait()
        return True

    async def release(task_name: str, _spec: Message) -> None:
        left.append(deadline.remaining())  # what a sibling is given to answer
        site.kind.holding.discard(task_name)

    monkeypatch.setattr(site.kind, "hold", hang)
    monkeypatch.setattr(site.kind, "release", release)
    seconds = 0.05
    while not held and seconds < 60:  # a busy machine may take longer to come so far
        with pytest.raises(TimeoutError):
            async with deadline.start(seconds):
                await site.create("ok")
        seconds *= 2
    await eventually(lambda: not site.kind.holding)
    assert left == [None]


async def test_what_a_task_holds_is_held_for_as_long_as_it_waits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_names: Sequence[str]) -> None:
        tried.set()
        raise unavailable("registry", "The registry does not answer.")

    tried = asyncio.Event()
    (sweeper,) = (each for run in site.engine.background if isinstance(each := getattr(run, "__self__", None), Sweeper))
    held = await site.create("ok", model_version="models/m/versions/held")
    await site.create("ok", seed=1)
    site.kind.renewed.clear()
    with monkeypatch.context() as outage:
        outage.setattr(site.kind, "renew", away)
        sweeper._renew_at = 0.0
        async with asyncio.timeout(60):
            await tried.wait()
    await eventually(lambda: site.kind.renewed)
    assert site.kind.renewed == [held.name]  # the next sweep made up for it, and the one after had no need to


@pytest.mark.parametrize("error", [MaxRetryError(None, "/lathe/cas"), asyncpg.ConnectionDoesNotExistError("gone")])  # type: ignore[arg-type]
async def test_a_server_that_is_away_fails_no_task_that_is_done(
    site: Site, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completion, "_backoff", lambda _: 0.01)
    site.kind.answers = [error] * (MAX_FAULTS + 2)
    await site.start_worker()
    done = await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)
    assert not site.kind.answers
    assert len(done.attempts) == 1


@swept
async def test_a_fault_that_stays_ends_a_task_whose_event_is_lost(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    task = await unrecorded(site)

    async def fault(_task: Message, _outcome: Message, _work: AnyMessage) -> Message:
        raise KeyError

    monkeypatch.setattr(site.kind, "complete", fault)
    failed = await site.reach(task, task_pb2.TASK_STATE_FAILED)
    assert failed.status.failure.reason == failure_pb2.FAILURE_REASON_INTERNAL_ERROR
