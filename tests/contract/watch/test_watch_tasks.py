"""One stream for the tasks of all services: what is there, what changes, and no gap between two streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from lathe.evaluator.v1 import evaluation_service_pb2
from lathe.optimizer.v1 import optimization_service_pb2
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.type.v1.task_pb2 import TASK_STATE_CANCELLED, TASK_STATE_PENDING
from lathe.watch.v1.change_pb2 import (
    CHANGE_TYPE_CREATED,
    CHANGE_TYPE_DELETED,
    CHANGE_TYPE_EXISTING,
    CHANGE_TYPE_UPDATED,
    Change,
    TaskSummary,
)
from lathe.watch.v1.watch_service_pb2 import WatchTasksRequest, WatchTasksResponse

from services.bus.connection import Bus
from services.bus.topology import CHANGES, ensure_topology
from services.registry.watch import tasks
from services.tasks.state.reader import LISTING
from tests.contract.registry.conftest import unique
from tests.contract.workplace import DEVICE, Workplace
from tests.eventually import PATIENCE_SECONDS


class Watch:
    """A stream, read in the background."""

    def __init__(self, call: AsyncIterable[WatchTasksResponse]) -> None:
        self._call = call
        self.changes: list[Change] = []
        self.token = ""
        self.existing = 0
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for response in self._call:
            self.changes += response.changes
            self.token = response.resume_token or self.token
            if response.existing_sent:
                self.existing = len(self.changes)

    async def until(self, count: int) -> list[Change]:
        """Wait until so many changes are there and the token is known."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.changes) < count or not self.token:
                if self._reading.done():
                    self._reading.result()
                await asyncio.sleep(0.02)
        return list(self.changes)

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)


@asynccontextmanager
async def watching(workplace: Workplace, **fields: Any) -> AsyncIterator[Watch]:
    watch = Watch(workplace.watches.WatchTasks(WatchTasksRequest(**fields)))
    try:
        await watch.until(0)
        yield watch
    finally:
        await watch.close()


async def optimization(
    workplace: Workplace, source: ModelVersion, team: str
) -> optimization_service_pb2.OptimizationTask:
    """Create a task that waits: nobody works."""
    spec = optimization_service_pb2.OptimizationSpec(model_version=source.name, device=DEVICE)
    task = optimization_service_pb2.OptimizationTask(spec=spec, labels={"team": team})
    return await workplace.optimizations.CreateOptimizationTask(
        optimization_service_pb2.CreateOptimizationTaskRequest(task=task, skip_cache=True)
    )


async def cancel(workplace: Workplace, name: str) -> None:
    await workplace.optimizations.CancelOptimizationTask(
        optimization_service_pb2.CancelOptimizationTaskRequest(name=name)
    )


async def delete(workplace: Workplace, name: str) -> None:
    await workplace.optimizations.DeleteOptimizationTask(
        optimization_service_pb2.DeleteOptimizationTaskRequest(name=name)
    )


async def test_tasks_of_several_services_are_told_as_they_change(
    workplace: Workplace, package: ModelVersion, digits: Dataset
) -> None:
    team = unique("team")
    source = await workplace.source()
    async with watching(workplace, filter=f"labels.team = {team}") as watch:
        other = await optimization(workplace, source, "other")
        one = await optimization(workplace, source, team)
        spec = evaluation_service_pb2.EvaluationSpec(model_version=package.name, dataset=digits.name)
        task = evaluation_service_pb2.EvaluationTask(spec=spec, labels={"team": team})
        two = await workplace.evaluations.CreateEvaluationTask(
            evaluation_service_pb2.CreateEvaluationTaskRequest(task=task, skip_cache=True)
        )
        await watch.until(2)
        for name in (one.name, other.name):
            await cancel(workplace, name)
            await delete(workplace, name)
        changes = await watch.until(4)
    of_one = [each for each in changes if each.uid == one.uid]
    assert [each.type for each in of_one] == [CHANGE_TYPE_CREATED, CHANGE_TYPE_UPDATED, CHANGE_TYPE_DELETED]
    states = [each.task.status.state for each in of_one]
    assert states == [TASK_STATE_PENDING, TASK_STATE_CANCELLED, TASK_STATE_CANCELLED]
    assert [each.revision for each in of_one] == [1, 2, 3]
    (of_two,) = [each.task for each in changes if each.uid == two.uid]
    assert (of_two.kind, of_two.name, list(of_two.uses)) == ("evaluation", two.name, [package.name, digits.name])
    assert {each.uid for each in changes} == {one.uid, two.uid}


async def test_it_begins_with_what_is_there(workplace: Workplace) -> None:
    team = unique("team")
    source = await workplace.source()
    there = [await optimization(workplace, source, team) for _ in range(3)]
    asked = {"kinds": ["optimization", "conversion"], "filter": f"labels.team = {team}", "send_existing": True}
    async with watching(workplace, **asked) as watch:
        await watch.until(3)
        assert watch.existing == 3
        await cancel(workplace, there[0].name)
        changes = await watch.until(4)
    assert [each.uid for each in changes] == [*(each.uid for each in there), there[0].uid]
    assert {each.type for each in changes[:3]} == {CHANGE_TYPE_EXISTING}
    assert [each.revision for each in changes] == [1, 1, 1, 2]
    assert changes[0].task.labels["team"] == team
    async with watching(workplace, kinds=["conversion"], filter=asked["filter"], send_existing=True) as watch:
        assert not watch.changes


async def test_nothing_is_lost_or_doubled_between_two_streams(workplace: Workplace) -> None:
    team = unique("team")
    source = await workplace.source()
    asked = f"labels.team = {team}"
    async with watching(workplace, filter=asked) as watch:
        first = await optimization(workplace, source, team)
        await watch.until(1)
        token = watch.token
    await cancel(workplace, first.name)
    missed = [await optimization(workplace, source, team) for _ in range(3)]
    async with watching(workplace, filter=asked, resume_token=token, send_existing=True) as watch:
        changes = await watch.until(4)
        last = watch.token
    assert [(each.uid, each.revision) for each in changes] == [(first.uid, 2), *((each.uid, 1) for each in missed)]
    async with watching(workplace, filter=asked, resume_token=last) as watch:
        await cancel(workplace, missed[0].name)
        assert [(each.uid, each.revision) for each in await watch.until(1)] == [(missed[0].uid, 2)]


async def test_only_what_matches_after_the_change_is_told(workplace: Workplace) -> None:
    team = unique("team")
    source = await workplace.source()
    async with watching(
        workplace, filter=f"labels.team = {team} AND state = CANCELLED AND device = {DEVICE} AND priority = 0"
    ) as watch:
        one = await optimization(workplace, source, team)
        await cancel(workplace, one.name)
        assert [(each.uid, each.revision) for each in await watch.until(1)] == [(one.uid, 2)]


async def test_the_callers_own(workplace: Workplace) -> None:
    source = await workplace.source()
    call = workplace.watches.WatchTasks(WatchTasksRequest(mine_only=True), metadata=(("x-lathe-user", "eve"),))
    watch = Watch(call)
    await watch.until(0)
    await optimization(workplace, source, "others")
    spec = optimization_service_pb2.OptimizationSpec(model_version=source.name, device=DEVICE)
    task = optimization_service_pb2.OptimizationTask(spec=spec)
    own = await workplace.optimizations.CreateOptimizationTask(
        optimization_service_pb2.CreateOptimizationTaskRequest(task=task, skip_cache=True),
        metadata=(("x-lathe-user", "eve"),),
    )
    assert [each.uid for each in await watch.until(1)] == [own.uid]
    await watch.close()


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"kinds": ["baking"]}, "kinds", "conversion"),
        ({"filter": "colour = red"}, "filter", "device"),
        ({"filter": "device ="}, "filter", ""),
        ({"resume_token": "yesterday"}, "resume_token", "resume_token"),
        ({"resume_token": "-1.0"}, "resume_token", ""),
        ({"kinds": ["conversion", "conversion"]}, "kinds", ""),
    ],
)
async def test_what_is_wrong_is_named(workplace: Workplace, fields: dict[str, Any], field: str, words: str) -> None:
    error = await workplace.refused(anext(aiter(workplace.watches.WatchTasks(WatchTasksRequest(**fields)))))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields[0][0] == field
    assert words in error.message


async def test_a_token_of_another_stream_is_refused_in_words(workplace: Workplace) -> None:
    async with watching(workplace) as watch:
        made, _, sequence = watch.token.partition(".")
    for token in (f"{int(made, 16) - 1:x}.{sequence}", f"{made}.{int(sequence, 16) + 10**9:x}"):
        error = await workplace.refused(
            anext(aiter(workplace.watches.WatchTasks(WatchTasksRequest(resume_token=token))))
        )
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "WATCH_EXPIRED")
        assert "send_existing" in error.message


async def test_silence_renews_the_token_and_notices_a_new_stream(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "BEAT_SECONDS", 0.2)
    async with watching(workplace, kinds=["conversion"]) as watch:
        before = watch.token
        await optimization(workplace, await workplace.source(), "nobody")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while watch.token == before:
                await asyncio.sleep(0.05)
        assert not watch.changes
        bus = await Bus.connect(workplace.settings.nats_url, "test")
        await bus.js.delete_stream(CHANGES)
        await asyncio.sleep(0.01)
        await ensure_topology(bus, [], [])
        await bus.close()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await watch.until(1)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_every_field_of_a_filter_is_known_of_a_change() -> None:
    assert tasks._entry(TaskSummary()).keys() == LISTING.fields.keys()
