"""Groups: one request, a task of one kind for each of several versions, reported together."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.protobuf import descriptor_pool, message_factory
from lathe.type.v1.task_group_pb2 import TASK_GROUP_STATE_IN_PROGRESS, TaskGroupMember

from services.bus.connection import Bus
from services.bus.listening import listening, wait_for_any
from services.bus.topology import changed_subject
from services.database.leases import Leases
from services.database.pool import Database
from services.platform import access
from services.platform.errors import LatheError, aborted, from_rpc_error, invalid_argument, is_transient
from services.platform.identity import current_user
from services.platform.interceptors.validation import check
from services.resources.batches import in_batch
from services.resources.idempotency import made_once
from services.resources.kind import ResourceKind
from services.resources.listing import Entries, ListQuery
from services.resources.scope import Stated
from services.resources.store import ResourceStore
from services.tasks.api.handlers import TaskHandlers, check_priority
from services.tasks.api.members import Members
from services.tasks.kind import TaskKind
from services.tasks.state.machine import OPEN

_AT_ONCE = 8
# Members may change many times a second.
_SHORTEST_SECONDS = 0.2


class Groups:
    """Creates, reads, lists, watches and deletes the groups of one kind of task. `poll` is in seconds."""

    def __init__(
        self, kind: TaskKind, database: Database, tasks: TaskHandlers, members: Members, *, bus: Bus, poll: float
    ) -> None:
        self._kind = kind
        self._tasks = tasks
        self._members = members
        self._bus = bus
        self._poll = poll
        self._leases = Leases(database)
        service = descriptor_pool.Default().FindServiceByName(kind.service)
        noun = kind.task_type.DESCRIPTOR.name
        self._group_type: Any = message_factory.GetMessageClass(service.methods_by_name[f"Get{noun}Group"].output_type)
        create = service.methods_by_name[f"Create{noun}"].input_type
        self._create_type: Any = message_factory.GetMessageClass(create)
        self._collection = f"{kind.collection.removesuffix('s')}Groups"
        self._store: ResourceStore[Any] = ResourceStore(
            database,
            ResourceKind(
                self._group_type,
                table="task_groups",
                collection=self._collection,
                noun=f"group of {kind.name} tasks",
                scope=Stated(),
            ),
        )

    async def create(self, request: Any) -> Any:
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

    async def _make(self, request: Any) -> Any:
        self._check_spec(request.group)
        check_priority(request.group.priority)
        if request.group.project:
            access.require_project(request.group.project)
        # Its name is never that of a deleted one, as one made from the display name could be. Of a request that is
        # repeated it is the same again, as its tasks carry it.
        token = uuid.UUID(request.request_id) if request.request_id else uuid.uuid4()
        name = str(uuid.uuid5(token, f"group of {current_user()}"))
        group = self._group_type()
        group.CopyFrom(request.group)
        await self._create_tasks(group, request.skip_cache, token, f"{self._collection}/{name}")
        return await self._store.create(group, resource_id=name, request_id=request.request_id, request=request)

    async def get(self, name: str) -> Any:
        """Return a group; LatheError NOT_FOUND if there is none."""
        return await self._present(await self._store.get(name))

    async def page(self, request: Any, entries: Entries[Any]) -> str:
        """Make one page and return the token of the next."""
        return await self._store.list(ListQuery.from_request(request), entries, self._members.fill)

    async def watch(self, name: str) -> AsyncIterator[Any]:
        """Yield a group now and after changes of its tasks, until they have ended. Raises LatheError NOT_FOUND."""
        sent = await self.get(name)
        yield sent
        subjects = [changed_subject(self._kind.name, each.task.partition("/")[2]) for each in sent.members if each.task]
        async with listening(self._bus, *subjects) as changed:
            while sent.state == TASK_GROUP_STATE_IN_PROGRESS:
                await wait_for_any(changed, self._poll)
                await asyncio.sleep(_SHORTEST_SECONDS)
                changed.clear()
                group = await self.get(name)
                if group != sent:
                    sent = group
                    yield sent

    async def cancel(self, name: str) -> Any:
        """Ask for the end of every task that has not ended; return the group. Raises LatheError NOT_FOUND."""
        group = await self.get(name)
        access.require_change("group", name, group.project, [group.project])
        open_ = [each.task for each in group.members if each.task and each.state in OPEN]
        _, refused = await in_batch(open_, self._tasks.cancel, at_once=_AT_ONCE)
        # A task that has just ended, or was deleted, needs no end.
        if others := [each for each in refused if each.code not in {"FAILED_PRECONDITION", "NOT_FOUND"}]:
            raise aborted("CONFLICT", f"{len(others)} tasks of '{name}' still run: {others[0].message} Try again.")
        return await self.get(name)

    async def delete(self, name: str, etag: str) -> None:
        """Delete a group; its tasks stay. Raises LatheError NOT_FOUND, or ABORTED for a stale etag."""
        await self._store.delete(name, etag)

    async def _present(self, group: Any) -> Any:
        await self._members.fill([group])
        return group

    async def _create_tasks(self, group: Any, skip_cache: bool, token: uuid.UUID, name: str) -> None:
        """Create the tasks, and fill in the members; and the project of the first if the group names none."""
        slots, versions = asyncio.Semaphore(_AT_ONCE), range(len(group.model_versions))
        refused: list[LatheError] = []

        async def create(index: int) -> TaskGroupMember:
            async with slots:
                request_id = str(uuid.uuid5(token, str(index)))
                try:
                    return await self._create_task(group, index, skip_cache, request_id, name)
                except LatheError as error:
                    if is_transient(error.code):  # it says nothing of the version: a repeat goes on from here
                        raise
                    refused.append(error)
                    return TaskGroupMember(model_version=group.model_versions[index], error=error.message)

        while not group.project and len(group.members) < len(versions):
            group.members.append(await create(len(group.members)))
        group.members.extend(await asyncio.gather(*(create(index) for index in versions[len(group.members) :])))
        if not group.project and not access.has_role(access.DEFAULT_PROJECT, access.Role.EDITOR):
            raise refused[0]  # of no use to anybody: nothing says in which project the group is

    async def _create_task(
        self, group: Any, index: int, skip_cache: bool, request_id: str, name: str
    ) -> TaskGroupMember:
        version = group.model_versions[index]
        wanted = self._create_type(request_id=request_id, skip_cache=skip_cache)
        wanted.task.project = group.project
        wanted.task.display_name = _task_name(group.display_name, version, index + 1)
        wanted.task.labels.update(group.labels)
        wanted.task.priority = group.priority
        wanted.task.spec.CopyFrom(_spec_for(group, version))
        try:
            task = await self._tasks.create(wanted, name)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        group.project = task.project
        return TaskGroupMember(model_version=version, task=task.name)

    def _check_spec(self, group: Any) -> None:
        """Refuse a specification that no version can have; LatheError INVALID_ARGUMENT naming `group.spec.…`."""
        if group.spec.model_version:
            raise invalid_argument(
                "group.spec.model_version", "the versions stand in group.model_versions; leave it empty here"
            )
        spec = _spec_for(group, group.model_versions[0])
        check(spec, inside="group.spec")
        try:
            self._kind.check(spec)
        except LatheError as error:
            error.fields = [(field.replace("task.spec", "group.spec", 1), words) for field, words in error.fields]
            error.message = error.message.replace("task.spec", "group.spec", 1)
            raise


def _spec_for(group: Any, version: str) -> Any:
    """Return the specification of the task for one version of a group."""
    spec = type(group.spec)()
    spec.CopyFrom(group.spec)
    spec.model_version = version
    return spec


def _task_name(group: str, version: str, index: int) -> str:
    """Return the display name of a member's task: `nightly-digits-3#1`."""
    _, model, _, number = version.split("/")
    return f"{group}-{model}-{number}#{index}"[:200]
