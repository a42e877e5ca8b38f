"""Groups: one request, a task for each of several versions, reported together."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence

import grpc
from lathe.optimizer.v1.optimization_service_pb2 import (
    CreateOptimizationTaskGroupRequest,
    CreateOptimizationTaskRequest,
    GroupMember,
    ListOptimizationTaskGroupsRequest,
    OptimizationSpec,
    OptimizationTask,
    OptimizationTaskGroup,
)
from uuid_utils.compat import uuid7

from services.database.leases import Leases
from services.database.pool import Database
from services.optimizer.members import Members
from services.optimizer.rules import normalized
from services.platform.errors import LatheError, from_rpc_error, invalid_argument, is_transient
from services.platform.interceptors.validation import check
from services.resources.idempotency import made_once
from services.resources.kind import ResourceKind
from services.resources.listing import ListQuery
from services.resources.store import ResourceStore
from services.tasks.api.handlers import TaskHandlers

KIND = ResourceKind(
    OptimizationTaskGroup,
    table="task_groups",
    collection="optimizationTaskGroups",
    noun="group of optimization tasks",
)
_CREATIONS_AT_ONCE = 8
_OUTPUT_ONLY = ("name", "uid", "members", "state")


class Groups:
    """Creates, reads, lists and deletes groups."""

    def __init__(self, database: Database, tasks: TaskHandlers, members: Members) -> None:
        self._database = database
        self._tasks = tasks
        self._members = members
        self._leases = Leases(database)
        self._store: ResourceStore[OptimizationTaskGroup] = ResourceStore(database, KIND)

    async def create(self, request: CreateOptimizationTaskGroupRequest) -> OptimizationTaskGroup:
        """Create a task for each version, and the group; a version whose task is refused is listed with the error.

        Raises:
            LatheError: INVALID_ARGUMENT for what is wrong for every version; UNAVAILABLE if a server does not
                answer: a repeat with the same request_id goes on.
        """
        group = await made_once(
            self._leases,
            request,
            find=lambda: self._store.first_made(request),
            make=lambda: self._make(request),
        )
        return await self._present(group)

    async def _make(self, request: CreateOptimizationTaskGroupRequest) -> OptimizationTaskGroup:
        check_spec(request.group)
        group = OptimizationTaskGroup()
        group.CopyFrom(request.group)
        for field in _OUTPUT_ONLY:
            group.ClearField(field)  # type: ignore[arg-type]  # all of them are fields
        group.members.extend(await self._create_tasks(request))
        # Its name is never that of a deleted one, as one made from the display name could be.
        return await self._store.create(group, resource_id=str(uuid7()), request_id=request.request_id, request=request)

    async def get(self, name: str) -> OptimizationTaskGroup:
        """Return a group; LatheError NOT_FOUND if there is none."""
        return await self._present(await self._store.get(name))

    async def page(self, request: ListOptimizationTaskGroupsRequest) -> tuple[list[OptimizationTaskGroup], str]:
        """Return one page and the token of the next."""
        return await self._store.list(ListQuery.from_request(request), self._members.fill)

    async def delete(self, name: str, etag: str) -> None:
        """Delete a group; its tasks stay. Raises LatheError NOT_FOUND, or ABORTED for a stale etag."""
        await self._store.delete(name, etag)

    async def _present(self, group: OptimizationTaskGroup) -> OptimizationTaskGroup:
        await self._members.fill([group])
        return group

    async def _create_tasks(self, request: CreateOptimizationTaskGroupRequest) -> Sequence[GroupMember]:
        token = uuid.UUID(request.request_id) if request.request_id else uuid.uuid4()
        slots = asyncio.Semaphore(_CREATIONS_AT_ONCE)

        async def create(index: int) -> GroupMember:
            async with slots:
                return await self._create_task(request, index, str(uuid.uuid5(token, str(index))))

        return await asyncio.gather(*(create(index) for index in range(len(request.group.model_versions))))

    async def _create_task(
        self, request: CreateOptimizationTaskGroupRequest, index: int, request_id: str
    ) -> GroupMember:
        group, version = request.group, request.group.model_versions[index]
        task = OptimizationTask(
            display_name=task_name(group.display_name, version, index + 1),
            labels=group.labels,
            spec=spec_for(group, version),
        )
        wanted = CreateOptimizationTaskRequest(task=task, request_id=request_id, skip_cache=request.skip_cache)
        member = GroupMember(model_version=version)
        try:
            member.task = (await self._tasks.create(wanted)).name
        except (LatheError, grpc.aio.AioRpcError) as error:
            told = from_rpc_error(error) if isinstance(error, grpc.aio.AioRpcError) else error
            if is_transient(told.code):  # it says nothing of the version: a repeat of the request goes on from here
                raise
            member.error = told.message
        return member


def spec_for(group: OptimizationTaskGroup, version: str) -> OptimizationSpec:
    """Return the specification of the task for one version of a group."""
    spec = OptimizationSpec()
    spec.CopyFrom(group.spec)
    spec.model_version = version
    return spec


def task_name(group: str, version: str, index: int) -> str:
    """Return the display name of a member's task: `nightly-digits-3#1`."""
    _, model, _, number = version.split("/")
    return f"{group}-{model}-{number}#{index}"[:200]


def check_spec(group: OptimizationTaskGroup) -> None:
    """Refuse a specification that no version can have; LatheError INVALID_ARGUMENT naming `group.spec.…`."""
    if group.spec.model_version:
        raise invalid_argument(
            "group.spec.model_version", "the versions stand in group.model_versions; leave it empty here"
        )
    spec = spec_for(group, group.model_versions[0])
    check(spec, inside="group.spec")
    try:
        normalized(spec)
    except LatheError as error:
        error.fields = [(field.replace("task.spec", "group.spec", 1), words) for field, words in error.fields]
        error.message = error.message.replace("task.spec", "group.spec", 1)
        raise
