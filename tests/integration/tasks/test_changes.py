"""Every committed change of a task is in the public stream: in order, once, whatever is down meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.type.v1 import task_pb2
from lathe.watch.v1.change_pb2 import (
    CHANGE_TYPE_CREATED,
    CHANGE_TYPE_DELETED,
    CHANGE_TYPE_UPDATED,
    Change,
)

from services.bus.batch import Message, publish_all
from services.bus.connection import Bus, BusUnavailableError
from services.bus.streams import read_after
from services.bus.topology import CHANGES, change_subject, ensure_topology
from services.changes import outbox
from services.platform.settings import Settings
from tests.eventually import eventually
from tests.integration.tasks.kit import Site, open_site


async def published(bus: Bus, uid: str = "*") -> list[Change]:
    found: list[Change] = []
    after = 0
    while batch := await read_after(bus, CHANGES, change_subject("conversion", uid), after):
        found += [Change.FromString(data) for _, data in batch]
        after = batch[-1][0]
    return found


async def until(site: Site, uid: str, condition: Callable[[list[Change]], bool]) -> list[Change]:
    return await eventually(lambda: published(site.bus, uid), condition)


async def test_a_life_is_told_from_creation_to_deletion(site: Site) -> None:
    task = await site.create("hang", labels={"team": "a"}, model_version="models/m/versions/7")
    await site.start_worker()
    await site.reach(task, task_pb2.TASK_STATE_RUNNING)
    site.jobs.release.set()
    done = await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    renamed = pb.ConversionTask(name=task.name, display_name="another", labels={"team": "b"})
    request = pb.UpdateConversionTaskRequest(task=renamed)
    request.update_mask.paths.extend(["display_name", "labels"])
    await site.engine.handlers.update(request)
    await site.engine.handlers.delete(task.name)
    told = await until(site, task.uid, lambda found: bool(found) and found[-1].type == CHANGE_TYPE_DELETED)
    assert [each.revision for each in told] == list(range(1, len(told) + 1))
    assert told[0].type == CHANGE_TYPE_CREATED
    assert {each.type for each in told[1:-1]} == {CHANGE_TYPE_UPDATED}
    states = [each.task.status.state for each in told]
    assert [state for i, state in enumerate(states) if states[i - 1 : i] != [state]] == [
        task_pb2.TASK_STATE_PENDING,
        task_pb2.TASK_STATE_RUNNING,
        task_pb2.TASK_STATE_SUCCEEDED,
    ]
    first, last = told[0].task, told[-1].task
    assert (first.name, first.uid, first.kind, first.device) == (task.name, task.uid, "conversion", done.device)
    assert (dict(first.labels), dict(last.labels), last.display_name) == ({"team": "a"}, {"team": "b"}, "another")
    assert list(first.uses) == ["models/m/versions/7", "templates/hang"]
    assert told[done.status.revision - 1].task.status == done.status


async def test_what_is_shared_is_told_too(site: Site) -> None:
    leader = await site.create("ok", seed=3)
    follower = await site.create("ok", seed=3)
    await site.start_worker()
    await site.reach(follower, task_pb2.TASK_STATE_SUCCEEDED)
    cached = await site.create("ok", seed=3)
    assert cached.status.state == task_pb2.TASK_STATE_SUCCEEDED
    for task in (leader, follower, cached):
        told = await until(
            site, task.uid, lambda found: bool(found) and found[-1].task.status.state == task_pb2.TASK_STATE_SUCCEEDED
        )
        assert [each.revision for each in told] == list(range(1, len(told) + 1))


async def test_two_replicas_publish_in_order(task_settings: Settings, tmp_path: Path) -> None:
    async with open_site(task_settings, tmp_path / "1") as one, open_site(task_settings, tmp_path / "2") as two:
        await one.start_worker()
        tasks = [await site.create("files", seed=seed) for seed in range(20) for site in (one, two)]
        for task in tasks:
            await one.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
        for task in tasks:
            told = await until(
                one,
                task.uid,
                lambda found: bool(found) and found[-1].task.status.state == task_pb2.TASK_STATE_SUCCEEDED,
            )
            assert [each.revision for each in told] == list(range(1, len(told) + 1))


async def test_what_was_committed_before_a_crash_is_published_by_the_next_process(
    task_settings: Settings, tmp_path: Path
) -> None:
    async with open_site(task_settings, tmp_path, background=False) as site:  # it dies before it publishes
        task = await site.create("ok")
        assert not await published(site.bus)
    async with open_site(task_settings, tmp_path) as site:
        told = await until(site, task.uid, bool)
        assert [each.type for each in told] == [CHANGE_TYPE_CREATED]


async def test_an_answer_that_is_lost_makes_no_double(
    task_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_site(task_settings, tmp_path, background=False) as site:
        for seed in range(5):
            await site.create("ok", seed=seed)

        async def cut(bus: Bus, messages: list[Message]) -> None:
            await publish_all(bus, messages)
            raise BusUnavailableError("the answer is lost")

        with monkeypatch.context() as patch:
            patch.setattr("services.changes.publisher.publish_all", cut)
            with pytest.raises(BusUnavailableError):
                await site.engine.publisher.publish()
        await site.create("ok", seed=5)
        assert await site.engine.publisher.publish() == 6
        assert await site.engine.publisher.publish() == 0
        assert len(await published(site.bus)) == 6


async def test_while_the_bus_is_away_changes_wait(task_settings: Settings, tmp_path: Path) -> None:
    async with open_site(task_settings, tmp_path, background=False) as site:
        task = await site.create("ok")
        await site.bus.js.delete_stream(CHANGES)
        with pytest.raises(BusUnavailableError):
            await site.engine.publisher.publish()
        await ensure_topology(site.bus, [], [])
        assert await site.engine.publisher.publish() == 1
        assert [each.uid for each in await published(site.bus)] == [task.uid]


async def test_a_change_that_is_too_large_is_told_without_its_resource(
    task_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_CHANGE_BYTES", 200)
    async with open_site(task_settings, tmp_path, background=False) as site:
        task = await site.create("ok")
        await site.engine.publisher.publish()
        (told,) = await published(site.bus)
        assert (told.name, told.revision, told.WhichOneof("resource")) == (task.name, 1, None)
