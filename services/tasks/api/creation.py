"""Creating tasks: checked, resolved, looked up in the action cache, written once per request."""

from __future__ import annotations

import asyncio
from uuid import UUID

from google.protobuf.message import Message

from services.bus.connection import Bus
from services.database.leases import KeyedLocks
from services.platform import access
from services.platform.access import Role
from services.platform.errors import LatheError, failed_precondition, invalid_argument, not_found
from services.platform.identity import current_user
from services.platform.quotas import CachedQuotas
from services.platform.telemetry import name_task
from services.tasks.api.cache import ActionCache
from services.tasks.api.dispatcher import Dispatcher
from services.tasks.api.drafts import draft_task
from services.tasks.api.ledger import Ledger
from services.tasks.api.metrics import count_created
from services.tasks.api.request import TaskRequest
from services.tasks.api.settler import Settler
from services.tasks.api.workers import WorkersView
from services.tasks.kind import PreparedTask
from services.tasks.state.queue import Dispatch
from services.tasks.state.rows import Created, NewTask, TaskRow
from services.tasks.state.store import RequestRepeatedError

_LOOKS = 10
_LOOK_SECONDS = 0.1


class Creator:
    """Creates the tasks of one kind."""

    def __init__(
        self,
        ledger: Ledger,
        dispatcher: Dispatcher,
        settler: Settler,
        workers: WorkersView,
        bus: Bus,
        *,
        quotas: CachedQuotas,
    ) -> None:
        self._ledger = ledger
        self._codec = ledger.codec
        self._kind = ledger.codec.kind
        self._store = ledger.store
        self._dispatcher = dispatcher
        self._quotas = quotas
        self._bus = bus
        self._settler = settler
        self._cache = ActionCache(ledger, settler, workers)
        self._requests = KeyedLocks()

    async def create(self, wanted: TaskRequest) -> TaskRow:
        """Create a task, or return what the same request created before.

        Raises:
            LatheError: The specification is wrong; or REQUEST_ID_REUSED.
        """
        request_id = _request_id(wanted.request_id)
        if request_id is None:
            return await self._make(wanted, None)
        # Repeats at the same time wait here; those on other replicas meet in the table.
        async with self._requests.hold(f"{request_id} of {current_user()}"):
            # First of all: a repeat is answered even if what it refers to is gone, or does not answer.
            return await self._first(request_id, wanted) or await self._make(wanted, request_id)

    async def check(self, wanted: TaskRequest) -> TaskRow:
        """Return the row that `create` would write now, and write nothing; raises as `create` does."""
        prepared, _ = await self._prepare(wanted)
        return self._draft(wanted, prepared, None).row

    async def _make(self, wanted: TaskRequest, request_id: UUID | None) -> TaskRow:
        prepared, result = await self._prepare(wanted)
        draft = self._draft(wanted, prepared, request_id)
        try:
            if result is not None:
                return self._counted(await self._record(draft, result), "imported")
            if (row := await self._cache.create(draft, prepared.standing)) is not None:
                return self._counted(row, "cached")
            return await self._enqueue(draft, wanted.spec)
        except RequestRepeatedError:
            assert request_id is not None
            first = await self._first(request_id, wanted)
            assert first is not None
            return first
        except LatheError:
            # A repeat that comes while the first is at work may be refused what the first holds.
            if request_id is None or (first := await self._first_soon(request_id, wanted)) is None:
                raise
            return first

    async def _prepare(self, wanted: TaskRequest) -> tuple[PreparedTask, Message | None]:
        """Return the checked specification of a task that its creator may have in its project, and its result if known.

        Raises:
            LatheError: NOT_FOUND for a project without a role of the caller; PERMISSION_DENIED, reason ROLE_REQUIRED.
        """
        if wanted.project:  # before anybody is asked
            access.require_project(wanted.project, Role.EDITOR)
        if wanted.done is not None:
            prepared, result = await wanted.done()
        else:
            prepared, result = await self._kind.prepare(wanted.spec, wanted.project), None
        try:
            access.require_role(prepared.project, Role.EDITOR)
        except LatheError as error:
            if error.reason == "ROLE_REQUIRED" and not wanted.project:
                error.message += " Or name a project of yours in task.project."
            raise
        return prepared, result

    async def _record(self, draft: NewTask, result: Message) -> TaskRow:
        """Create the task as SUCCEEDED with a result that no worker of Lathe made."""
        row = self._codec.succeeded(draft.row, self._codec.message(draft.row).origin, result)
        await self._store.create(draft._replace(row=row, action_keys=(), shares=False, msg_id=""))
        return row

    async def _first_soon(self, request_id: UUID, wanted: TaskRequest) -> TaskRow | None:
        """Return the task that the same request is just creating; None if it creates none."""
        for _ in range(_LOOKS):
            if (first := await self._first(request_id, wanted)) is not None:
                return first
            await asyncio.sleep(_LOOK_SECONDS)
        return None

    async def _enqueue(self, draft: NewTask, spec: Message) -> TaskRow:
        """Create the task as PENDING, and send it on its way unless it follows an equal one."""
        held = True  # until it is known: the answer may be lost
        try:
            held = await self._kind.hold(draft.name, spec)
            draft = draft._replace(row=draft.row._replace(held=held))
            created = await self._queue(draft)
            if created.hit is not None:  # an equal one ended since the cache was asked
                if (row := await self._cache.create(draft)) is not None:
                    return self._counted(row, "cached")
                created = await self._queue(draft._replace(action_keys=()))
        except BaseException:
            if held:
                self._settler.let_go(draft.name, spec)
            raise
        leading = draft.shares and created.leader is None
        row = draft.row._replace(leader=created.leader, leader_project=created.leader_project, leading=leading)
        return self._counted(row, "queued" if created.leader is None else "shared")

    def _counted(self, row: TaskRow, how: str) -> TaskRow:
        count_created(self._kind.name, row.device, how)
        name_task(str(row.uid))
        return row

    async def _queue(self, draft: NewTask) -> Created:
        """Write the task, and send it to the workers at once if there is room."""
        row = draft.row
        limits = await self._quotas.of(row.project)
        with self._dispatcher.reserved(row.device, at_once=not limits.running_tasks) as place:
            created = await self._store.create(draft, sent=place.free, most_waiting=limits.waiting_tasks)
            if created.queued:
                place.take(Dispatch(row.uid, row.device, draft.msg_id, row.assignment))
        return created

    def _draft(self, wanted: TaskRequest, prepared: PreparedTask, request_id: UUID | None) -> NewTask:
        return draft_task(self._codec, self._cache, wanted, prepared, request_id, max_bytes=self._bus.max_bytes)

    async def _first(self, request_id: UUID, wanted: TaskRequest) -> TaskRow | None:
        found = await self._store.find_request(current_user(), request_id)
        row, digest = found or (None, await self._store.find_deleted(current_user(), request_id))
        if digest is None:
            return None
        if digest != wanted.fingerprint:
            raise invalid_argument(
                "request_id",
                f"{request_id} was already sent with a different request. Use a new UUID for a new request.",
                reason="REQUEST_ID_REUSED",
            )
        if row is not None and not access.is_visible([row.project]):
            raise not_found("task", self._codec.name_of(row.uid))
        if row is None:
            raise failed_precondition(
                "ALREADY_DELETED",
                "A request with this request_id created a task, which has been deleted since. "
                "Use a new request_id to create another one.",
            )
        return row


def _request_id(text: str) -> UUID | None:
    if not text:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise invalid_argument("request_id", f"'{text}' is not a UUID. Send one, or leave it empty.") from None
