"""Watching tasks and following logs, with resumption."""

from __future__ import annotations

import asyncio

import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.type.v1 import task_pb2

from services.platform.errors import LatheError
from services.tasks.api import streams
from tests.eventually import eventually
from tests.integration.tasks.kit import Site


def watch_request(task: pb.ConversionTask, after: int = 0) -> pb.WatchConversionTaskRequest:
    return pb.WatchConversionTaskRequest(name=task.name, after_revision=after)


async def lines(site: Site, task: pb.ConversionTask, **fields: int) -> list[str]:
    request = pb.StreamConversionTaskLogsRequest(name=task.name, **fields)  # type: ignore[arg-type] # numbers and a flag
    return [line.text async for batch in site.engine.streams.logs(request) for line in batch.lines]


async def test_a_watch_ends_with_the_task_and_resumes(site: Site) -> None:
    task = await site.create("files")
    seen: list[pb.ConversionTask] = []

    async def watch() -> None:
        async for news in site.engine.streams.watch(watch_request(task)):
            seen.append(news)  # noqa: PERF401 - as they come, not at the end

    watching = asyncio.create_task(watch())
    await eventually(lambda: seen)  # a worker that is faster than the watch would hide what came first
    await site.start_worker()
    async with asyncio.timeout(60):
        await watching
    revisions = [each.status.revision for each in seen]
    assert revisions == sorted(set(revisions))
    assert seen[0].status.state == task_pb2.TASK_STATE_PENDING
    assert seen[-1].status.state == task_pb2.TASK_STATE_SUCCEEDED
    rest = [each async for each in site.engine.streams.watch(watch_request(task, after=revisions[-2]))]
    assert [each.status.revision for each in rest] == revisions[-1:]
    assert not [each async for each in site.engine.streams.watch(watch_request(task, after=revisions[-1]))]


async def test_a_watch_from_a_revision_that_never_was_sends_all_there_is(site: Site) -> None:
    await site.start_worker()
    task = await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)
    request = watch_request(task, after=task.status.revision + 100)
    assert [each async for each in site.engine.streams.watch(request)] == [task]


async def test_a_watch_of_nothing_is_not_found(site: Site) -> None:
    with pytest.raises(LatheError, match="no task named"):
        async for _ in site.engine.streams.watch(pb.WatchConversionTaskRequest(name="conversionTasks/none")):
            pass


async def test_logs_are_followed_and_resumed(site: Site) -> None:
    task = await site.create("lines")
    following = asyncio.create_task(lines(site, task, follow=True))
    await site.start_worker()
    async with asyncio.timeout(60):
        assert await following == [f"line {number}" for number in range(1, 7)]
    await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    assert await lines(site, task, after_line=4) == ["line 5", "line 6"]
    assert await lines(site, task, attempt=1, after_line=6) == []
    with pytest.raises(LatheError, match="has no attempt 2"):
        await lines(site, task, attempt=2)


@pytest.mark.parametrize("ended", [True, False], ids=["stored", "live"])
async def test_a_log_comes_in_batches_and_from_its_end(site: Site, ended: bool) -> None:
    site.jobs.going_on.clear()
    await site.start_worker()
    task = await site.create("lines")
    if ended:
        site.jobs.going_on.set()
        await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    else:
        await eventually(lambda: lines(site, task), lambda found: len(found) == 5)
    known = await lines(site, task)
    assert await lines(site, task, tail_lines=2) == known[-2:]
    assert await lines(site, task, tail_lines=100) == known
    assert await lines(site, task, tail_lines=100, after_line=4) == known[4:]
    site.jobs.going_on.set()
    request = pb.StreamConversionTaskLogsRequest(name=task.name, tail_lines=3, follow=True)
    batches = [batch async for batch in site.engine.streams.logs(request)]
    assert [line.text for batch in batches for line in batch.lines][-1] == "line 6"
    assert len(batches) < 3


async def test_batches_of_a_long_log_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BATCH_BYTES", 10)
    await site.start_worker()
    task = await site.reach(await site.create("lines"), task_pb2.TASK_STATE_SUCCEEDED)
    request = pb.StreamConversionTaskLogsRequest(name=task.name)
    batches = [batch async for batch in site.engine.streams.logs(request)]
    assert len(batches) > 1
    assert [line.number for batch in batches for line in batch.lines] == [1, 2, 3, 4, 5, 6]


def test_empty_lines_fill_a_batch_too() -> None:
    lines = [task_pb2.LogLine(attempt=1, number=number) for number in range(1, 200_000)]
    batches = list(streams._batches(lines))
    assert max(batch.ByteSize() for batch in batches) < 2 * streams.BATCH_BYTES
    assert [line for batch in batches for line in batch.lines] == lines


async def test_a_live_log_is_read_from_the_stream(site: Site) -> None:
    await site.start_worker()
    task = await site.create("lines")
    found = await eventually(lambda: lines(site, task), lambda found: len(found) >= 5)
    assert found[:5] == [f"line {number}" for number in range(1, 6)]


async def test_following_goes_on_with_the_next_attempt(site: Site) -> None:
    await site.start_worker()
    task = await site.create("fault")
    await site.reach(task, task_pb2.TASK_STATE_FAILED)
    assert any("KeyError" in line for line in await lines(site, task, follow=True))
