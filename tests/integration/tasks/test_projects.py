"""Tasks belong to projects: who sees and changes them, and what tasks of two projects that share work learn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.type.v1 import task_pb2

from services.platform import access
from services.platform.access import Access, Permit, Role
from services.platform.errors import LatheError, invalid_argument
from services.platform.identity import Caller, Proof, become, current_caller
from tests.integration.tasks.kit import DEFAULT, Site

VISION, SPEECH = "projects/vision", "projects/speech"
UNKNOWN = "conversionTasks/00000000-0000-0000-0000-000000000001"


@contextmanager
def member(needed: Role = Role.VIEWER, **roles: Role) -> Iterator[Permit]:
    """Run a block for a member of some projects, in a method that needs a role."""
    permit = Permit(Access({f"projects/{name}": role for name, role in roles.items()}), needed)
    before = current_caller()
    become(Caller("ann", Proof.USER))
    access.enter(permit)
    try:
        yield permit
    finally:
        become(before)


async def test_a_task_is_in_the_project_that_its_creator_names_or_in_that_of_the_model(site: Site) -> None:
    task = await site.create("ok", project=VISION)
    assert task.project == (await site.get(task)).project == VISION
    assert (await site.create("ok", seed=1)).project == DEFAULT
    retried = await site.engine.handlers.retry(pb.RetryConversionTaskRequest(name=(await site.cancel(task)).name))
    assert retried.project == VISION
    edited = pb.ResubmitConversionTaskRequest(name=task.name, spec=task.spec)
    assert (await site.engine.handlers.resubmit(edited)).project == VISION


async def test_nobody_but_members_sees_a_task(site: Site) -> None:
    handlers = site.engine.handlers
    task, own = await site.create("ok", project=VISION), await site.create("ok", seed=1, project=SPEECH)
    with member(speech=Role.ADMIN, default=Role.EDITOR) as permit:
        unknown = [
            await refused(handlers.get(UNKNOWN)),
            await refused(handlers.get_many([own.name, UNKNOWN], full=True)),
        ]
        assert [
            await refused(handlers.get(task.name)),
            await refused(handlers.get_many([own.name, task.name], full=True)),
        ] == [error.replace(UNKNOWN, task.name) for error in unknown]
        assert [each.name for each in await listed(site)] == [own.name]
        assert [each.name for each in await listed(site, search="echo")] == [own.name]
        assert not await listed(site, filter=f'project = "{VISION}"')
        permit.needed = Role.EDITOR
        for verb in (handlers.cancel, handlers.delete):
            assert await refused(verb(task.name)) == unknown[0].replace(UNKNOWN, task.name)
    assert (await site.get(task)).status.state == task_pb2.TASK_STATE_PENDING


async def test_a_viewer_reads_and_changes_nothing(site: Site) -> None:
    handlers = site.engine.handlers
    task = await site.create("ok", project=VISION)
    with member(Role.EDITOR, vision=Role.VIEWER):
        assert (await site.get(task)).project == VISION
        update = pb.UpdateConversionTaskRequest(task=pb.ConversionTask(name=task.name, display_name="mine"))
        update.update_mask.paths.append("display_name")
        for call in (
            handlers.cancel(task.name),
            handlers.delete(task.name),
            handlers.update(update),
            handlers.retry(pb.RetryConversionTaskRequest(name=task.name)),
            handlers.resubmit(pb.ResubmitConversionTaskRequest(name=task.name, spec=task.spec)),
            site.create("ok", project=VISION),
        ):
            assert f"EDITOR in {VISION}" in await refused(call, grpc.StatusCode.PERMISSION_DENIED)
    assert (await site.get(task)).etag == task.etag


async def test_to_create_takes_the_role_in_the_project(site: Site) -> None:
    with member(Role.EDITOR, vision=Role.EDITOR, default=Role.VIEWER):
        assert (await site.create("ok", project=VISION)).project == VISION
        hint = await refused(site.create("ok"), grpc.StatusCode.PERMISSION_DENIED)
        assert f"EDITOR in {DEFAULT}" in hint
        assert "task.project" in hint
        before = site.kind.prepared
        assert SPEECH in await refused(site.create("ok", project=SPEECH))
        assert site.kind.prepared == before, "nobody is asked for a project that the caller does not see"
        validated = site.create("ok", seed=9, project=SPEECH, validate_only=True)
        assert SPEECH in await refused(validated)


async def test_a_repeat_of_a_request_tells_nothing_to_who_left_the_project(site: Site) -> None:
    request_id = "8d0a4b3e-3c56-4a55-8d38-7a1f2b9c4d10"
    with member(Role.EDITOR, vision=Role.EDITOR):
        task = await site.create("ok", project=VISION, request_id=request_id)
        assert (await site.create("ok", project=VISION, request_id=request_id)).name == task.name
    with member(Role.EDITOR, speech=Role.EDITOR):
        await refused(site.create("ok", project=VISION, request_id=request_id))


async def test_equal_work_of_two_projects_is_done_once_and_names_nobody(site: Site) -> None:
    leader = await site.create("ok", project=VISION)
    same = await site.create("ok", project=VISION)
    other = await site.create("ok", project=SPEECH)
    assert leader.name in same.status.pending_reason
    waits = "A task of another project does the same work; this task will share its result."
    assert other.status.pending_reason == waits
    assert (await site.get(other)).status.pending_reason == waits
    await site.start_worker()
    shared = await site.reach(other, task_pb2.TASK_STATE_SUCCEEDED)
    assert shared.origin.cache_hit == "conversionTasks/-"
    assert shared.origin.environment
    assert not shared.attempts
    assert (await site.reach(same, task_pb2.TASK_STATE_SUCCEEDED)).origin.cache_hit == leader.name
    later = await site.create("ok", project=SPEECH)
    assert later.origin.cache_hit == "conversionTasks/-"
    assert site.jobs.runs == ["ok"]
    for task in (shared, later):
        assert leader.name not in str(task)
        assert VISION not in str(task)


async def test_a_follower_of_a_follower_of_another_project_is_told_no_name(site: Site) -> None:
    leader = await site.create("ok", project=VISION)
    first, second = await site.create("ok", project=SPEECH), await site.create("ok", project=VISION)
    await site.cancel(leader)
    follows = "A task of another project"
    waiting = await site.until(second, lambda task: follows in task.status.pending_reason)
    assert first.name not in str(waiting)


async def test_a_refused_registration_names_no_task_of_another_project(site: Site) -> None:
    site.kind.answers = [invalid_argument("version", "The model is full.")]
    await site.start_worker()
    failed = await site.reach(await site.create("ok", project=VISION), task_pb2.TASK_STATE_FAILED)
    site.kind.answers = [invalid_argument("version", "The model is full.")] * 2
    assert "another project" in (
        told := await refused(site.create("ok", project=SPEECH), grpc.StatusCode.FAILED_PRECONDITION)
    )
    assert failed.name not in told
    assert failed.name in await refused(site.create("ok", project=VISION), grpc.StatusCode.FAILED_PRECONDITION)


async def test_who_leaves_a_project_sees_no_more_of_a_task_in_a_watch(site: Site) -> None:
    task = await site.create("ok", project=VISION)
    with member(vision=Role.VIEWER) as permit:
        watching = site.engine.streams.watch(pb.WatchConversionTaskRequest(name=task.name))
        assert (await anext(watching)).name == task.name
        permit.access = Access()
        with pytest.raises(LatheError) as gone:
            await anext(watching)
    assert gone.value.code == grpc.StatusCode.NOT_FOUND


async def test_a_group_is_in_the_project_of_its_tasks(site: Site) -> None:
    become(Caller("ann"))
    group = pb.ConversionTaskGroup(
        display_name="nightly",
        project=VISION,
        model_versions=[f"models/m/versions/{number}" for number in (1, 2)],
        spec=pb.ConversionSpec(template="templates/ok"),
    )
    made = await site.engine.groups.create(pb.CreateConversionTaskGroupRequest(group=group))
    assert made.project == VISION
    assert {(await site.engine.handlers.get(each.task)).project for each in made.members} == {VISION}
    group.project = ""
    assert (await site.engine.groups.create(pb.CreateConversionTaskGroupRequest(group=group))).project == DEFAULT
    with member(Role.EDITOR, vision=Role.VIEWER):
        assert (await site.engine.groups.get(made.name)).name == made.name
        page = pb.ListConversionTaskGroupsResponse().groups
        await site.engine.groups.page(pb.ListConversionTaskGroupsRequest(), page)
        assert [each.name for each in page] == [made.name]
        assert VISION in await refused(site.engine.groups.cancel(made.name), grpc.StatusCode.PERMISSION_DENIED)
        group.project = SPEECH
        assert SPEECH in await refused(site.engine.groups.create(pb.CreateConversionTaskGroupRequest(group=group)))
    with member(Role.EDITOR, speech=Role.ADMIN):
        await refused(site.engine.groups.get(made.name))
        await refused(site.engine.groups.cancel(made.name))


async def listed(site: Site, **query: Any) -> list[pb.ConversionTask]:
    found = pb.ListConversionTasksResponse().tasks
    await site.engine.handlers.list_page(pb.ListConversionTasksRequest(**query), found)
    return list(found)


async def refused(call: object, code: grpc.StatusCode = grpc.StatusCode.NOT_FOUND) -> str:
    """Return what an error says."""
    with pytest.raises(LatheError) as error:
        await call  # type: ignore[misc]
    assert error.value.code == code, error.value.message
    return error.value.message
