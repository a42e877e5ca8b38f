"""Groups of tasks, over a real server: watched to their end, of every kind."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.type.v1.task_group_pb2 import (
    TASK_GROUP_STATE_ALL_SUCCEEDED,
    TASK_GROUP_STATE_IN_PROGRESS,
    TASK_GROUP_STATE_PARTLY_SUCCEEDED,
)
from lathe.type.v1.task_pb2 import (
    TASK_STATE_CANCELLED,
    TASK_STATE_CANCELLING,
    TASK_STATE_FAILED,
    TASK_STATE_SUCCEEDED,
)

from tests.contract.requests import SPECS, request_of
from tests.contract.suite import Suite
from tests.contract.tasks.calls import Served, refused

VERSIONS = [f"models/m/versions/{number}" for number in (1, 2, 3)]


def group_of(template: str) -> pb.CreateConversionTaskGroupRequest:
    spec = pb.ConversionSpec(template=f"templates/{template}")
    group = pb.ConversionTaskGroup(display_name="nightly", spec=spec, model_versions=VERSIONS, labels={"team": "a"})
    return pb.CreateConversionTaskGroupRequest(group=group, skip_cache=True)


async def watched(stub: object, name: str) -> list[pb.ConversionTaskGroup]:
    call = stub.WatchConversionTaskGroup(pb.WatchConversionTaskGroupRequest(name=name))  # type: ignore[attr-defined]
    async with asyncio.timeout(60):
        return [each async for each in call]


@pytest.mark.parametrize(
    ("template", "state", "members"),
    [
        ("ok", TASK_GROUP_STATE_ALL_SUCCEEDED, {TASK_STATE_SUCCEEDED}),
        ("flaky", TASK_GROUP_STATE_ALL_SUCCEEDED, {TASK_STATE_SUCCEEDED}),
    ],
)
async def test_a_group_is_watched_until_its_tasks_have_ended(
    served: Served, template: str, state: int, members: set[int]
) -> None:
    site, stub = served
    made = await stub.CreateConversionTaskGroup(group_of(template))
    assert made.state == TASK_GROUP_STATE_IN_PROGRESS
    news = aiter(stub.WatchConversionTaskGroup(pb.WatchConversionTaskGroupRequest(name=made.name)))
    async with asyncio.timeout(60):
        seen = [await anext(news)]
        await site.start_worker()
        seen += [each async for each in news]
    assert seen[0].state == TASK_GROUP_STATE_IN_PROGRESS
    assert seen[-1].state == state
    assert {each.state for each in seen[-1].members} == members
    assert [each.model_version for each in seen[-1].members] == VERSIONS
    assert {bool(each.result_version) for each in seen[-1].members} == {TASK_STATE_SUCCEEDED in members}
    assert await watched(stub, made.name) == seen[-1:]


async def test_a_cancelled_member_ends_too(served: Served) -> None:
    site, stub = served
    made = await stub.CreateConversionTaskGroup(group_of("ok"))
    await stub.CancelConversionTask(pb.CancelConversionTaskRequest(name=made.members[0].task))
    await site.start_worker()
    last = (await watched(stub, made.name))[-1]
    assert last.state == TASK_GROUP_STATE_PARTLY_SUCCEEDED
    assert TASK_STATE_FAILED not in {each.state for each in last.members}
    tasks = await stub.ListConversionTasks(pb.ListConversionTasksRequest(filter="labels.team = a"))
    assert {each.name for each in tasks.tasks} == {each.task for each in made.members}


async def test_the_tasks_of_a_group_carry_it_and_its_priority(served: Served) -> None:
    _, stub = served
    request = group_of("ok")
    request.group.priority = 3
    made = await stub.CreateConversionTaskGroup(request)
    await stub.CreateConversionTaskGroup(group_of("ok"))
    listed = await stub.ListConversionTasks(
        pb.ListConversionTasksRequest(filter=f'group:"{made.name}" AND priority = 3')
    )
    assert {each.name for each in listed.tasks} == {each.task for each in made.members}
    assert {each.origin.group for each in listed.tasks} == {made.name}


async def test_a_group_of_a_repeated_request_is_the_one_that_its_tasks_carry(served: Served) -> None:
    _, stub = served
    request = group_of("ok")
    request.request_id = "7c0e2f2a-3c0e-4d5c-9d51-3b8f2f5f3b11"
    made = await stub.CreateConversionTaskGroup(request)
    again = await stub.CreateConversionTaskGroup(request)
    assert (again.name, again.members) == (made.name, made.members)


async def test_a_cancelled_group_cancels_what_has_not_ended(served: Served) -> None:
    site, stub = served
    made = await stub.CreateConversionTaskGroup(group_of("ok"))
    await stub.CancelConversionTask(pb.CancelConversionTaskRequest(name=made.members[0].task))
    cancelled = await stub.CancelConversionTaskGroup(pb.CancelConversionTaskGroupRequest(name=made.name))
    assert {each.state for each in cancelled.members} <= {TASK_STATE_CANCELLING, TASK_STATE_CANCELLED}
    await site.start_worker()
    last = (await watched(stub, made.name))[-1]
    assert {each.state for each in last.members} == {TASK_STATE_CANCELLED}
    # Again, when there is nothing left to cancel.
    assert await stub.CancelConversionTaskGroup(pb.CancelConversionTaskGroupRequest(name=made.name)) == last
    missing = pb.CancelConversionTaskGroupRequest(name="conversionTaskGroups/none")
    assert (await refused(stub.CancelConversionTaskGroup(missing))).code is grpc.StatusCode.NOT_FOUND


async def test_a_watch_of_nothing_is_not_found(served: Served) -> None:
    _, stub = served
    call = stub.WatchConversionTaskGroup(pb.WatchConversionTaskGroupRequest(name="conversionTaskGroups/none"))
    assert (await refused(anext(aiter(call)))).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("kind", SPECS)
async def test_every_kind_has_groups(suite: Suite, kind: str) -> None:
    name = suite.made["groups"][kind]
    assert name.startswith(f"{kind.lower()}TaskGroups/")
    found = await suite.call(f"Get{kind}TaskGroup", request_of(f"Get{kind}TaskGroup", {"name": name}))
    (member,) = found["members"]
    assert member["model_version"] == SPECS[kind]["model_version"]
    # A task, or why there can be none: nothing else is true of a version that may be no package.
    assert member.get("task", "").startswith(f"{kind.lower()}Tasks/") or member["error"]
    listed = await suite.call(f"List{kind}TaskGroups", request_of(f"List{kind}TaskGroups", {}))
    assert name in {each["name"] for each in listed["groups"]}
