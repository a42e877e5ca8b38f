"""No task makes a call fail by its size: a new one is refused, and one that is there already is shown in part."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.type.v1 import failure_pb2, task_pb2
from lathe.type.v1.view_pb2 import VIEW_FULL

from services.database.pool import Database
from services.platform.messages import MAX_OUTCOME_BYTES, MAX_TASK_BYTES
from services.tasks.api import drafts
from tests.contract.tasks.calls import Served, create, refused

LIMIT = 4 << 20


def large(size: int, seed: int = 0) -> pb.CreateConversionTaskRequest:
    request = create(seed=seed)
    taxonomy = request.task.spec.overrides.values.taxonomies.add(task="t")
    taxonomy.classes.extend("c" * 1000 for _ in range(size // 1000))
    return request


async def names(stub: Any, **fields: Any) -> list[str]:
    """Return the tasks of every page."""
    found: list[str] = []
    request = pb.ListConversionTasksRequest(**fields)
    while True:
        page = await stub.ListConversionTasks(request)
        assert page.ByteSize() < LIMIT
        found += [task.name for task in page.tasks]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


async def test_a_task_that_no_message_can_hold_is_not_created(served: Served) -> None:
    _, stub = served
    error = await refused(stub.CreateConversionTask(large(MAX_TASK_BYTES + 1000)))
    assert (error.code, error.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TASK_TOO_LARGE")
    assert await names(stub) == []


async def test_a_list_leaves_out_what_is_long_unless_asked(served: Served) -> None:
    site, stub = served
    await site.start_worker()
    task = await site.reach(await stub.CreateConversionTask(create()), task_pb2.TASK_STATE_SUCCEEDED)
    (basic,) = (await stub.ListConversionTasks(pb.ListConversionTasksRequest())).tasks
    assert not basic.HasField("spec")
    assert not basic.HasField("result")
    assert (basic.name, basic.status) == (task.name, task.status)
    (full,) = (await stub.ListConversionTasks(pb.ListConversionTasksRequest(view=VIEW_FULL))).tasks
    assert full == task


@pytest.mark.parametrize("view", ["VIEW_BASIC", "VIEW_FULL"])
async def test_large_tasks_make_short_pages_that_show_each_once(served: Served, view: str) -> None:
    _, stub = served
    created = [(await stub.CreateConversionTask(large(1_400_000, seed))).name for seed in range(14)]
    assert await names(stub, view=view) == created[::-1]
    assert await names(stub, view=view, page_size=3) == created[::-1]


async def test_a_task_from_before_the_limits_is_shown_in_part(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    site, stub = served
    with monkeypatch.context() as patch:
        patch.setattr(drafts, "MAX_TASK_BYTES", 1 << 30)
        old = await stub.CreateConversionTask(large(3_400_000))
        database = await Database.connect(site.settings.database_url, "echo")
        # A result lies beside the specification, in the other half of the row.
        result = pb.ConversionTask(result=pb.ConversionResult(hardware="x" * 3_000_000)).SerializeToString()
        await database.execute("UPDATE tasks SET live = live || $1", result)
        await database.close()
    found = await stub.GetConversionTask(pb.GetConversionTaskRequest(name=old.name))
    assert not found.spec.overrides.values.taxonomies
    assert found.status.state == task_pb2.TASK_STATE_PENDING
    other = await stub.CreateConversionTask(create())
    assert await names(stub, view=VIEW_FULL) == [other.name, old.name]
    watch = stub.WatchConversionTask(pb.WatchConversionTaskRequest(name=old.name))
    assert (await anext(aiter(watch))).name == old.name
    watch.cancel()


async def test_a_result_that_cannot_be_told_fails_its_task(served: Served) -> None:
    site, stub = served
    await site.start_worker()
    task = await site.reach(await stub.CreateConversionTask(create("verbose")), task_pb2.TASK_STATE_FAILED)
    assert task.status.failure.reason == failure_pb2.FAILURE_REASON_INVALID_SPEC
    assert str(MAX_OUTCOME_BYTES) in task.status.failure.message
    assert await names(stub) == [task.name]
