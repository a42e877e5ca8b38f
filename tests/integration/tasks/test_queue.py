"""Tasks wait in the table, and go to the workers by priority, fair share and age."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.internal.v1.queue_pb2 import QueueReport
from lathe.type.v1 import task_pb2

from engines.sandbox import Layer, Sandbox
from services.bus.topology import queues_subject
from services.database.pool import Database
from services.platform.access import DEFAULT_PROJECT, Access, Permit, Role, enter
from services.platform.errors import LatheError
from services.platform.identity import Caller, Proof, acting_as, become
from services.platform.settings import Settings
from services.tasks.state.turns import Flow
from tests.eventually import eventually
from tests.integration.tasks.kit import OPTIONS, RESENDING, Site, open_site


async def in_order(site: Site, tasks: list[pb.ConversionTask]) -> list[str]:
    """Let a worker do everything, one task at a time; returns the names in the order of their ends."""
    await site.start_worker(concurrency=1)
    for task in tasks:
        await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    return site.kind.completed


async def create(site: Site, count: int, first: int = 0, **fields: Any) -> list[pb.ConversionTask]:
    return [await site.create("ok", seed=seed, **fields) for seed in range(first, first + count)]


async def until_waiting(site: Site, count: int) -> None:
    """Wait until so many tasks wait to be sent."""
    await eventually(site.queue.waiting, lambda waiting: waiting == count)


async def one_sent(site: Site, waiting: int) -> list[pb.ConversionTask]:
    """Create a task, and others once that is on its way to the workers; one that is sent at once might overtake it."""
    tasks = await create(site, 1)
    await site.on_the_way(1)
    tasks += await create(site, waiting, 1)
    await until_waiting(site, waiting)
    return tasks


async def places(site: Site, tasks: Sequence[pb.ConversionTask], expected: Sequence[int]) -> None:
    """Wait until tasks have these places; figures are kept for a second."""

    async def told() -> list[int]:
        return [(await site.get(task)).status.queue.position for task in tasks]

    await eventually(told, lambda found: found == list(expected))


async def test_a_higher_priority_goes_first(site: Site) -> None:
    low = await one_sent(site, 3)
    (high,) = await create(site, 1, 10, priority=9)
    (middle,) = await create(site, 1, 20, priority=3)
    order = await in_order(site, [*low, high, middle])
    assert order == [task.name for task in (low[0], high, middle, *low[1:])]
    assert (await site.get(high)).priority == 9


async def test_one_users_many_tasks_do_not_keep_another_waiting(site: Site) -> None:
    with acting_as("many"):
        many = await create(site, 8)
    with acting_as("one"):
        (one,) = await create(site, 1, 10)
    order = await in_order(site, [*many, one])
    assert order.index(one.name) <= 1


async def test_turns_follow_weights(task_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def room(_self: Flow, _now: float, slots: int, _running: int, sent: int) -> int:
        return (20 if slots else 1) - sent

    # All are chosen at once: how many at a time depends on the speed of the worker, and of one or two nobody's share is
    # three quarters.
    monkeypatch.setattr(Flow, "room", room)
    async with open_site(task_settings, tmp_path, replace(OPTIONS, weights={"ada": 3.0})) as site:
        tasks = []
        for seed, owner in enumerate(["first", *["bob"] * 6, *["ada"] * 6]):
            with acting_as(owner):
                tasks += await create(site, 1, seed)
        order = await in_order(site, tasks)
        of_ada = {task.name for task in tasks[-6:]}
        assert sum(name in of_ada for name in order[1:9]) in (5, 6)


async def test_a_replica_that_dies_leaves_its_tasks_to_the_other_in_a_fair_order(
    task_settings: Settings, tmp_path: Path
) -> None:
    async with open_site(task_settings, tmp_path / "a") as living:
        async with open_site(task_settings, tmp_path / "b") as dying:
            with acting_as("many"):
                many = await create(dying, 10)
        with acting_as("one"):
            (one,) = await create(living, 1, 20)
        order = await in_order(living, [*many, one])
        # The one that is left does not know whose turn the last one was, if that task has ended already.
        assert order.index(one.name) <= 2
        assert len(living.jobs.runs) == 11
        assert await living.queue.waiting() == 0


async def test_no_more_is_sent_than_workers_soon_take(site: Site) -> None:
    await site.start_worker(concurrency=2)
    tasks = [await site.create("hang", seed=seed) for seed in range(10)]
    await site.began(2)  # any two: one that is sent at once may overtake one that a pass sends
    await until_waiting(site, 7)
    await site.on_the_way(3)
    await asyncio.sleep(0.5)
    assert await site.queue.waiting() == 7
    await site.on_the_way(3)
    site.jobs.release.set()
    for task in tasks:
        await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
    assert len(site.jobs.runs) == 10


async def test_a_waiting_task_that_is_cancelled_is_never_sent(site: Site) -> None:
    first, second = await one_sent(site, 1)
    await site.cancel(second)
    assert await site.queue.waiting() == 0
    assert await in_order(site, [first]) == [first.name]


async def test_who_waits_for_an_equal_task_lends_it_its_priority(site: Site) -> None:
    tasks = await create(site, 4)
    follower = await site.create("ok", seed=3, priority=5)
    assert follower.status.pending_reason
    order = await in_order(site, [*tasks, follower])
    assert order.index(tasks[3].name) <= 1


async def test_what_was_marked_and_never_sent_is_found(task_settings: Settings, tmp_path: Path) -> None:
    async with open_site(task_settings, tmp_path, background=False) as dead:
        task = await dead.create("ok")
        database = await Database.connect(task_settings.database_url, "echo")
        await database.execute("UPDATE queue SET sent = now()")
        await database.close()
    async with open_site(task_settings, tmp_path, RESENDING) as site:
        await site.start_worker()
        await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED)


async def test_replicas_send_each_task_once(task_settings: Settings, tmp_path: Path) -> None:
    async with open_site(task_settings, tmp_path / "a") as first, open_site(task_settings, tmp_path / "b") as second:
        tasks = [await site.create("ok", seed=2 * n + i) for n in range(20) for i, site in enumerate((first, second))]
        await asyncio.gather(*(site.engine.dispatcher.look() for site in (first, second) for _ in range(5)))
        await first.start_worker(concurrency=4)
        for task in tasks:
            await first.reach(task, task_pb2.TASK_STATE_SUCCEEDED)
        assert len(first.jobs.runs) == 40
        assert await first.queue.waiting() == 0


async def test_rows_that_an_older_release_left_are_forgotten(task_settings: Settings, tmp_path: Path) -> None:
    async with open_site(task_settings, tmp_path) as site:
        database = await Database.connect(task_settings.database_url, "echo")
        await database.execute(
            "INSERT INTO queue (task, device, owner, rank, msg_id, sent) "
            "SELECT gen_random_uuid(), 'cpu-x86-64', 'o', 9, '', CASE WHEN n > 3 THEN now() END "
            "FROM generate_series(1, 6) AS n"
        )
        await in_order(site, await create(site, 2))
        await eventually(lambda: database.fetchval("SELECT count(*) FROM queue"), lambda rows: rows == 0)
        await database.close()


async def test_users_take_priorities_up_to_five(site: Site) -> None:
    become(Caller("u", Proof.USER))
    enter(Permit(Access({DEFAULT_PROJECT: Role.EDITOR}), Role.EDITOR))
    await site.create("ok", priority=5)
    with pytest.raises(LatheError, match="reserved for administrators"):
        await site.create("ok", seed=1, priority=6)
    become(Caller("u", Proof.USER, is_admin=True))
    assert (await site.create("ok", seed=2, priority=6)).priority == 6


async def test_a_waiting_task_knows_its_place(site: Site) -> None:
    first, second = await one_sent(site, 1)
    with acting_as("somebody"):
        (theirs,) = await create(site, 1, 10)
    (urgent,) = await create(site, 1, 20, priority=4)
    await places(site, (first, urgent, second, theirs), (1, 2, 4, 4))
    place = (await site.get(theirs)).status.queue
    assert not place.workers
    assert not place.HasField("estimated_start_time")
    await in_order(site, [first, second, theirs, urgent])
    assert not (await site.get(first)).status.HasField("queue")


async def test_estimates_come_from_what_ran_before(site: Site) -> None:
    await in_order(site, await create(site, 3))
    running = [await site.create("hang", seed=seed) for seed in range(3)]

    async def found() -> list[task_pb2.TaskQueue]:
        return [(await site.get(task)).status.queue for task in running]

    # Any of them runs: one that is sent at once may overtake one that a pass sends.
    told = await eventually(found, lambda told: sorted(each.position for each in told) == [0, 1, 2])
    place = max(told, key=lambda each: each.position)
    assert place.workers == 1
    assert place.estimated_duration.ToMilliseconds() < 60_000
    assert place.estimated_start_time.seconds > running[2].create_time.seconds - 2


async def test_a_watch_tells_when_a_task_comes_forward(site: Site) -> None:
    _, second, third = await one_sent(site, 2)
    await places(site, [third], [3])
    watching = site.engine.streams.watch(pb.WatchConversionTaskRequest(name=third.name))
    async with asyncio.timeout(60):
        positions = [(await anext(watching)).status.queue.position]
        await site.cancel(second)
        while positions[-1] == 3:
            positions.append((await anext(watching)).status.queue.position)
    assert positions[0] == 3
    assert positions[-1] == 2


async def test_a_service_reports_its_queues(site: Site) -> None:
    await create(site, 3)
    await site.create("ok", model_version="models/gpu/versions/1", output_model="models/nvidia-t4")
    sandbox = Sandbox({"seccomp": Layer(True, "socket"), "landlock": Layer(False, "Function not implemented")})
    worker = await site.start_worker(concurrency=2, sandbox=sandbox)
    subject = queues_subject("conversion")
    report = QueueReport.FromString((await site.bus.nc.request(subject, b"", timeout=60)).data)
    assert report.kind == "conversion"
    queues = {queue.device: queue for queue in report.queues}
    assert (queues["cpu-x86-64"].workers, queues["cpu-x86-64"].slots) == (1, 2)
    (alike,) = queues["cpu-x86-64"].sandboxes
    assert (alike.sandbox.confined, list(alike.sandbox.active)) == (False, ["seccomp"])
    assert list(alike.sandbox.missing) == ["landlock (Function not implemented)"]
    assert list(alike.workers) == [worker.name]
    other = queues["nvidia-t4"]
    assert (other.workers, other.waiting, other.running) == (0, 1, 0)
    assert other.HasField("oldest_create_time")
