"""What each unary verb of a task service does."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from lathe.type.v1 import task_pb2

from services.platform.changes import apply_mask, check_etag, names_field
from services.platform.errors import (
    aborted,
    failed_precondition,
    invalid_argument,
    not_found,
    permission_denied,
)
from services.platform.identity import MOST_PRIORITY_OF_USERS, may_administer
from services.platform.interceptors.validation import check
from services.platform.messages import reduced
from services.platform.words import word
from services.resources.idempotency import fingerprint
from services.resources.listing import Entries, ListQuery
from services.tasks.api.creation import Creator
from services.tasks.api.ledger import Ledger
from services.tasks.api.queues import Queues
from services.tasks.api.request import TaskRequest
from services.tasks.api.workers import WorkersView
from services.tasks.kind import DETAILS
from services.tasks.state.commands import Cancel
from services.tasks.state.machine import TERMINAL
from services.tasks.state.rows import TaskRow, searchable, timestamp

EDITABLE = ("display_name", "labels")
_RETRYABLE = frozenset({task_pb2.TASK_STATE_FAILED, task_pb2.TASK_STATE_CANCELLED})
_OVERTAKEN_TRIES = 5


class TaskHandlers:
    """The verbs, for one kind. Requests have the fields that lathe.converter.v1 gives them."""

    def __init__(self, ledger: Ledger, creator: Creator, workers: WorkersView, queues: Queues) -> None:
        self._ledger = ledger
        self._codec = ledger.codec
        self._kind = ledger.codec.kind
        self._details = [name for name in DETAILS if name in self._kind.task_type.DESCRIPTOR.fields_by_name]
        self._store = ledger.store
        self._creator = creator
        self._workers = workers
        self._queues = queues

    async def create(self, request: Any, group: str = "") -> Any:
        """Create a task, of a group if one is named."""
        task = request.task
        check_priority(task.priority)
        wanted = TaskRequest(
            spec=task.spec,
            display_name=task.display_name,
            labels=dict(task.labels),
            skip_cache=request.skip_cache,
            request_id=request.request_id,
            fingerprint=fingerprint_of(request),
            priority=task.priority,
            group=group,
            project=task.project,
        )
        return await self._created(wanted, validate_only=request.validate_only)

    async def record(self, wanted: TaskRequest) -> Any:
        """Create a task whose work was done elsewhere (`TaskRequest.done`)."""
        return await self._created(wanted, validate_only=False)

    async def retry(self, request: Any) -> Any:
        """Create a task with the specification of a FAILED or CANCELLED one."""
        row = await self._store.to_change(request.name)
        old = self._codec.message(row)
        if row.state not in _RETRYABLE:
            raise failed_precondition(
                "TASK_NOT_RETRYABLE",
                f"'{request.name}' is {_state(row)}; only a FAILED or CANCELLED task can be retried.",
                request.name,
            )
        wanted = TaskRequest(
            spec=old.spec,
            display_name=old.display_name,
            labels=dict(old.labels),
            skip_cache=request.skip_cache,
            request_id=request.request_id,
            fingerprint=fingerprint_of(request),
            retry_of=old.name,
            retried=row,
            priority=old.priority,
            project=old.project,
        )
        return self.present(await self._creator.create(wanted))

    async def resubmit(self, request: Any) -> Any:
        """Create a task with an edited specification."""
        old = self._codec.message(await self._store.to_change(request.name))
        wanted = TaskRequest(
            spec=request.spec,
            display_name=request.display_name,
            labels=dict(old.labels),
            skip_cache=request.skip_cache,
            request_id=request.request_id,
            fingerprint=fingerprint_of(request),
            resubmission_of=old.name,
            priority=old.priority,
            project=old.project,
        )
        return await self._created(wanted, validate_only=request.validate_only)

    async def _created(self, wanted: TaskRequest, *, validate_only: bool) -> Any:
        if not validate_only:
            return self.present(await self._creator.create(wanted))
        task = self.present(await self._creator.check(wanted))
        for field in ("name", "uid", "create_time", "update_time", "etag"):
            task.ClearField(field)
        return task

    async def get(self, name: str) -> Any:
        """Return a task."""
        return await self.seen(await self.row(name))

    async def get_many(self, names: Sequence[str], *, full: bool) -> list[Any]:
        """Return tasks in the order of their names, with specifications and results if `full`; LatheError NOT_FOUND."""
        show = self._present if full else self._show_basic
        rows = await self._store.read_many(names)
        tasks = [self._kind.task_type() for _ in rows]
        for task, row in zip(tasks, rows, strict=True):
            show(task, row)
        return tasks

    async def list_page(self, request: Any, entries: Entries[Any]) -> str:
        """Make a page of tasks and return the token of the next."""
        query = ListQuery.from_request(request)
        return await self._store.list(query, entries, self._present if query.full else self._show_basic)

    async def update(self, request: Any) -> Any:
        """Change display name and labels."""
        name = request.task.name
        for _ in range(_OVERTAKEN_TRIES):
            row = await self._store.to_change(name)
            task = self._codec.message(row)
            check_etag(request.task.etag, task.etag, name)
            body = self._kind.task_type.FromString(row.body)
            apply_mask(request.task, body, request.update_mask, EDITABLE)
            check(body, inside="task", changed=request.update_mask)
            edited: Any = body
            if not edited.display_name and names_field(request.update_mask, "display_name"):
                text = "A task needs a display name. Give one, or leave 'display_name' out of the update_mask."
                raise invalid_argument("task.display_name", text)
            if await self._store.rename(
                row,
                body.SerializeToString(),
                display_name=edited.display_name,
                labels=dict(edited.labels),
                search=searchable(row.uid, edited.display_name),
                now=datetime.now(UTC),
            ):
                return self.present(await self.row(name))
        raise aborted("CONFLICT", f"'{name}' changes faster than it can be edited just now. Try again.")

    async def cancel(self, name: str) -> Any:
        """Ask for a task's end."""
        row = await self._store.to_change(name)
        if row.state in TERMINAL and row.state != task_pb2.TASK_STATE_CANCELLED:
            raise failed_precondition(
                "TASK_ENDED", f"'{name}' is {_state(row)} already; there is nothing to cancel.", name
            )
        after = await self._ledger.command(row.uid, Cancel(timestamp()), noted=True)
        if after is None:
            raise not_found("task", name)
        return self.present(after)

    async def delete(self, name: str, etag: str = "") -> None:
        """Delete a terminal task."""
        row = await self._store.to_change(name)
        check_etag(etag, self._codec.message(row).etag, name)
        if row.state not in TERMINAL:
            raise failed_precondition(
                "TASK_NOT_ENDED", f"'{name}' is {_state(row)}; cancel it first, and delete it when it has ended.", name
            )
        if row.held:
            task = self._codec.message(row)
            await self._kind.release(name, task.spec)
        if not await self._store.delete(row):
            raise aborted("CONFLICT", f"'{name}' was changed at the same moment. Try again.")

    async def row(self, name: str) -> TaskRow:
        """Return the row of a name. Raises LatheError NOT_FOUND."""
        return await self._store.read(name)

    def present(self, row: TaskRow) -> Any:
        """Return the task message as callers see it, with the reason why it waits if that is known."""
        task = self._kind.task_type()
        self._present(task, row)
        return task

    def _present(self, task: Any, row: TaskRow) -> None:
        """Set an empty message, as `present` returns one."""
        self._codec.fill(task, row)
        if row.state == task_pb2.TASK_STATE_PENDING and row.leader is None:
            why = self._workers.why_pending(self._kind.name, row.device, handed_on=row.outcome is not None)
            if why:
                task.status.pending_reason = f"{task.status.pending_reason} {why}".strip()
        reduced(task, DETAILS)

    async def seen(self, row: TaskRow) -> Any:
        """Return the task message, with its place in the queue if it waits."""
        task = self.present(row)
        if (standing := await self._queues.of(row)) is not None:
            task.status.queue.CopyFrom(standing)
        return task

    def _show_basic(self, task: Any, row: TaskRow) -> None:
        self._present(task, row)
        for field in self._details:
            task.ClearField(field)


def check_priority(priority: int) -> None:
    """Refuse a priority that is not for everybody; LatheError PERMISSION_DENIED."""
    if priority > MOST_PRIORITY_OF_USERS and not may_administer():
        raise permission_denied(
            f"Priorities above {MOST_PRIORITY_OF_USERS} are reserved for administrators and services. Take 0 to "
            f"{MOST_PRIORITY_OF_USERS}, or ask an administrator to create the task."
        )


def _state(row: TaskRow) -> str:
    return word(task_pb2.TaskState, row.state)  # type: ignore[misc] # the column holds the enum's numbers


def fingerprint_of(request: Any) -> bytes:
    """Return what tells a request from others with its request_id; empty without one."""
    return fingerprint(request, request.DESCRIPTOR.full_name) if request.request_id else b""
