"""Groups: one request, a task for each version, reported together, over real servers."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import grpc
from lathe.optimizer.v1 import optimization_service_pb2 as pb
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.type.v1 import task_group_pb2 as group_pb
from lathe.type.v1.task_pb2 import TASK_STATE_CANCELLED, TASK_STATE_PENDING, TASK_STATE_SUCCEEDED

from services.optimizer.work import OptimizationWorkKind
from services.platform.words import from_values
from services.tasks.api.members import state_of
from tests.contract.optimizer.desk import Job, cancel
from tests.contract.workplace import DEVICE, Workplace

GONE = "models/absent/versions/1"


def request_for(*versions: str, request_id: str = "", **group: Any) -> pb.CreateOptimizationTaskGroupRequest:
    values = {"display_name": "nightly", "spec": {"device": DEVICE}, "model_versions": versions, **group}
    made = from_values(values, pb.OptimizationTaskGroup())
    return pb.CreateOptimizationTaskGroupRequest(group=made, request_id=request_id)


async def two(workplace: Workplace) -> list[ModelVersion]:
    return [await workplace.source("Identity"), await workplace.source("Neg")]


async def tasks_of(workplace: Workplace, group: pb.OptimizationTaskGroup) -> list[pb.OptimizationTask]:
    get = workplace.optimizations.GetOptimizationTask
    return [await get(pb.GetOptimizationTaskRequest(name=each.task)) for each in group.members if each.task]


async def test_a_version_without_a_task_stands_with_its_error_and_the_others_run(workplace: Workplace) -> None:
    versions = [each.name for each in await two(workplace)]
    asked = request_for(versions[0], GONE, versions[1], request_id=str(uuid.uuid4()), labels={"team": "vision"})
    service = workplace.optimizations
    async with workplace.worker(OptimizationWorkKind(DEVICE), Job().run):
        # A caller that lost patience asks again while the first is at work, and once more when it is done.
        group, other = await asyncio.gather(*(service.CreateOptimizationTaskGroup(asked) for _ in range(2)))
        again = await service.CreateOptimizationTaskGroup(asked)
        tasks = [await workplace.optimized(task) for task in await tasks_of(workplace, group)]
    assert again.name == group.name == other.name
    assert [each.task for each in again.members] == [each.task for each in group.members]
    names = [each.display_name for each in tasks]
    assert names == [f"nightly-{v.split('/')[1]}-{v.split('/')[3]}#{i}" for v, i in zip(versions, (1, 3), strict=True)]
    assert all(dict(each.labels) == {"team": "vision"} for each in tasks)
    got = await service.GetOptimizationTaskGroup(pb.GetOptimizationTaskGroupRequest(name=group.name))
    assert [each.model_version for each in got.members] == [versions[0], GONE, versions[1]]
    assert [each.state for each in got.members] == [TASK_STATE_SUCCEEDED, 0, TASK_STATE_SUCCEEDED]
    assert [dict(each.figures) for each in got.members] == [{"speedup": 2.5}, {}, {"speedup": 2.5}]
    assert "absent" in got.members[1].error
    assert got.state == group_pb.TASK_GROUP_STATE_PARTLY_SUCCEEDED

    found = await service.ListOptimizationTaskGroups(
        pb.ListOptimizationTaskGroupsRequest(filter="labels.team = vision", search="nightly", page_size=5)
    )
    assert group.name in {each.name for each in found.groups}
    assert found.groups[0].members[0].task
    delete = pb.DeleteOptimizationTaskGroupRequest(name=group.name, etag='"stale"')
    assert (await workplace.refused(service.DeleteOptimizationTaskGroup(delete))).code is grpc.StatusCode.ABORTED
    await service.DeleteOptimizationTaskGroup(pb.DeleteOptimizationTaskGroupRequest(name=group.name))
    get = pb.GetOptimizationTaskGroupRequest(name=group.name)
    assert (await workplace.refused(service.GetOptimizationTaskGroup(get))).code is grpc.StatusCode.NOT_FOUND
    assert await tasks_of(workplace, group)


async def test_states_are_read_from_the_tasks(workplace: Workplace) -> None:
    versions = await two(workplace)
    service = workplace.optimizations
    # Nothing has made this yet, so that nobody answers from the cache.
    spec = {"device": DEVICE, "seed": 77, "output_location": "groups"}
    group = await service.CreateOptimizationTaskGroup(request_for(*(each.name for each in versions), spec=spec))
    assert (group.state, {each.state for each in group.members}) == (
        group_pb.TASK_GROUP_STATE_IN_PROGRESS,
        {TASK_STATE_PENDING},
    )
    tasks = await tasks_of(workplace, group)
    await cancel(workplace, *tasks)
    await service.DeleteOptimizationTask(pb.DeleteOptimizationTaskRequest(name=tasks[0].name))
    got = await service.GetOptimizationTaskGroup(pb.GetOptimizationTaskGroupRequest(name=group.name))
    assert got.state == group_pb.TASK_GROUP_STATE_NONE_SUCCEEDED
    assert (got.members[0].task, got.members[0].error) == ("", "The task was deleted.")
    assert got.members[1].state == TASK_STATE_CANCELLED


async def test_what_no_version_can_have_is_refused_at_once(workplace: Workplace) -> None:
    (version, _) = await two(workplace)
    create = workplace.optimizations.CreateOptimizationTaskGroup
    for spec, field in (
        ({"device": "toaster"}, "group.spec.device"),
        ({"device": DEVICE, "model_version": version.name}, "group.spec.model_version"),
        ({"device": DEVICE, "max_degradation": 200}, "group.spec.max_degradation"),
        ({}, "group.spec.device"),
    ):
        error = await workplace.refused(create(request_for(version.name, spec=spec)))
        assert error.code is grpc.StatusCode.INVALID_ARGUMENT
        assert error.fields[0][0] == field
        assert "task.spec" not in error.message
    twice = request_for(version.name, version.name)
    assert (await workplace.refused(create(twice))).code is grpc.StatusCode.INVALID_ARGUMENT


def test_how_members_stand_together() -> None:
    member = group_pb.TaskGroupMember
    done, failed, open_ = (
        member(state=TASK_STATE_SUCCEEDED),
        member(state=TASK_STATE_CANCELLED),
        member(state=TASK_STATE_PENDING),
    )
    assert state_of([done, failed, open_]) == group_pb.TASK_GROUP_STATE_IN_PROGRESS
    assert state_of([done, done]) == group_pb.TASK_GROUP_STATE_ALL_SUCCEEDED
    assert state_of([done, member()]) == group_pb.TASK_GROUP_STATE_PARTLY_SUCCEEDED
    assert state_of([failed, member()]) == group_pb.TASK_GROUP_STATE_NONE_SUCCEEDED
