"""Tasks that ended long ago are deleted, and what something needs stays."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.type.v1 import task_pb2

from services.database.pool import Database
from services.platform.errors import LatheError
from services.platform.identity import Caller, become
from services.tasks.api.retention import Retention
from tests.integration.tasks.kit import Site


async def left(site: Site) -> set[str]:
    tasks = pb.ListConversionTasksResponse().tasks
    await site.engine.handlers.list_page(pb.ListConversionTasksRequest(), tasks)
    return {each.name for each in tasks}


async def expire(site: Site, *, stay: str = "", before: datetime | None = None) -> list[dict[str, str]]:
    """Let go what ended before a time, by default by now; return the entries of the audit log."""
    database = await Database.connect(site.settings.database_url, "echo", max_size=2)
    try:
        retention = [Retention(database, site.engine.ledger, site.engine.groups, days=1, stay=stay) for _ in range(2)]
        # Tasks of their own, as the parts of an engine have: who calls stays who it is.
        await asyncio.gather(*(each.expire(before or datetime.now(UTC)) for each in retention))
        return [dict(row) for row in await database.fetch("SELECT caller, method, resource FROM audit")]
    finally:
        await database.close()


async def test_what_ended_long_ago_is_deleted_as_a_user_deletes_it(site: Site) -> None:
    await site.start_worker()
    request_id = str(uuid.uuid4())
    done = await site.create("ok", request_id=request_id)
    failed, cancelled = await site.create("fail"), await site.create("hang")
    kept, waiting = await site.create("ok", seed=1, labels={"keep": ""}), await site.create("hang", seed=1)
    await site.reach(cancelled, task_pb2.TASK_STATE_RUNNING)
    await site.cancel(cancelled)
    for task in (done, failed, kept, cancelled):
        await site.reach(task, task_pb2.TASK_STATE_SUCCEEDED, task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_CANCELLED)
    await expire(site, before=datetime.now(UTC) - timedelta(days=1))
    assert len(await left(site)) == 5
    entries = await expire(site)
    assert await left(site) == {kept.name, waiting.name}
    deleted = [each for each in entries if each["method"].endswith("/DeleteConversionTask")]
    assert {each["resource"] for each in deleted} == {done.name, failed.name, cancelled.name}
    assert {each["caller"] for each in deleted} == {"anonymous"}
    with pytest.raises(LatheError) as repeated:
        await site.create("ok", request_id=request_id)
    assert repeated.value.reason == "ALREADY_DELETED"
    site.jobs.release.set()


async def test_what_something_needs_stays(site: Site) -> None:
    await site.start_worker()
    done = await site.reach(await site.create("ok"), task_pb2.TASK_STATE_SUCCEEDED)
    failed = await site.reach(await site.create("fail"), task_pb2.TASK_STATE_FAILED)
    await expire(site, stay=f"{{0}}.state = {task_pb2.TASK_STATE_SUCCEEDED}")
    assert await left(site) == {done.name}
    leader = uuid.UUID(done.uid)
    follower = await site.reach(await site.create("hang"), task_pb2.TASK_STATE_RUNNING)
    database = await Database.connect(site.settings.database_url, "echo", max_size=1)
    try:
        follow = "UPDATE tasks SET leader = $1 WHERE uid = $2"
        await database.execute(follow, leader, uuid.UUID(follower.uid))
        await expire(site)
        assert await left(site) == {done.name, follower.name}
        await database.execute(follow, None, uuid.UUID(follower.uid))
    finally:
        await database.close()
    await expire(site)
    assert await left(site) == {follower.name}
    assert failed.name not in await left(site)
    site.jobs.release.set()


async def test_the_tasks_of_a_group_go_together_and_the_group_with_them(site: Site) -> None:
    await site.start_worker()
    become(Caller("ann"))
    group = pb.ConversionTaskGroup(
        model_versions=[f"models/m/versions/{number}" for number in (1, 2)],
        spec=pb.ConversionSpec(template="templates/hang"),
    )
    made = await site.engine.groups.create(pb.CreateConversionTaskGroupRequest(group=group))
    first, second = [await site.engine.handlers.get(each.task) for each in made.members]
    await site.cancel(second)
    await site.reach(second, task_pb2.TASK_STATE_CANCELLED)
    await expire(site)
    assert await left(site) == {first.name, second.name}
    site.jobs.release.set()
    await site.reach(first, task_pb2.TASK_STATE_SUCCEEDED)
    await expire(site)
    assert await left(site) == set()
    with pytest.raises(LatheError) as gone:
        await site.engine.groups.get(made.name)
    assert gone.value.code.name == "NOT_FOUND"
