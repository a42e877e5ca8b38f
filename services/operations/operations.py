"""Operations: resources that are made by work in the background, and have a state, a progress and a failure.

exports = Operations(database, EXPORTS, backlog, Packing(...), max_attempts)
export = await exports.create(request, DatasetExport(), parent=request.parent)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from google.protobuf.message import Message
from lathe.type.v1.operation_pb2 import (
    OPERATION_STATE_CANCELLED,
    OPERATION_STATE_FAILED,
    OPERATION_STATE_RUNNING,
    OPERATION_STATE_SUCCEEDED,
    OperationState,
)
from uuid_utils.compat import uuid7

from engines.failures import EngineFailure
from services.database.pool import Connection, Database
from services.operations.backlog import Backlog, Claim
from services.operations.runner import LostError, Runner, Standing
from services.operations.watching import changes
from services.platform.errors import LatheError, failed_precondition
from services.platform.failures import failure_message
from services.platform.identity import acting_as
from services.platform.words import word
from services.resources.kind import ResourceKind
from services.resources.listing import Entries, ListQuery
from services.resources.store import ResourceStore

__all__ = ["Operations", "Work"]

M = TypeVar("M", bound=Message)
_LONGEST = 4000


class Work(Protocol[M]):
    """What one kind of operation does."""

    @property
    def noun(self) -> str:
        """What it is called in logs and errors: `dataset export`."""

    @property
    def at_once(self) -> int:
        """Operations that one process does at the same time."""

    async def do(self, operation: M, standing: Standing) -> M:
        """Return the fields of the result, to be added to the operation. Called in the name of its owner.

        Raises:
            EngineFailure, LatheError, grpc.aio.AioRpcError: It cannot be done, or not now.
        """


class Operations(Generic[M]):
    """Creates, reads, lists, watches, cancels and deletes the operations of one kind, and does them.

    The message has the fields of a resource, and `state`, `progress` and `failure`.
    """

    def __init__(
        self,
        database: Database,
        kind: ResourceKind[M],
        backlog: Backlog,
        work: Work[M],
        *,
        max_attempts: int,
        complete: Callable[[M], Awaitable[None]] | None = None,
    ) -> None:
        """Keep operations in the table of `kind`, and what goes on in `backlog`, whose key is their name.

        `complete` adds what is not stored, such as URLs, to one that SUCCEEDED, when it is read alone.
        """
        self.store: ResourceStore[M] = ResourceStore(database, kind)
        self.runner = Runner(backlog, _Job(self.store, backlog, work), max_attempts)
        self._backlog = backlog
        self._complete = complete

    async def create(self, request: Any, operation: M, *, parent: str = "") -> M:
        """Store an operation, which begins by itself unless it is SUCCEEDED already.

        Raises:
            LatheError: INVALID_ARGUMENT for a reused `request_id`, or a resource that is too large.
        """
        new: Any = operation
        new.state = new.state or OPERATION_STATE_RUNNING

        async def begin(connection: Connection, made: Any) -> None:
            if made.state == OPERATION_STATE_RUNNING:
                await self._backlog.begin(connection, made.name)

        made = await self.store.create(
            operation,
            resource_id=str(uuid7()),
            parent=parent,
            request_id=getattr(request, "request_id", ""),
            request=request,
            on_create=begin,
        )
        self.runner.wake()
        return await self._shown(made)

    async def get(self, name: str) -> M:
        """Return an operation; LatheError NOT_FOUND if there is none."""
        return await self._shown(await self.store.get(name))

    async def page(self, query: ListQuery, entries: Entries[M]) -> str:
        """Make the entries of one page, in a basic view without details; return the token of the next."""
        return await self.store.list(query, entries, self._set_progress)

    async def watch(self, name: str) -> AsyncIterator[M]:
        """Yield an operation whenever it changes, and end with its terminal state; LatheError NOT_FOUND."""
        async for operation in changes(lambda: self.get(name), _is_running):
            yield operation

    async def cancel(self, name: str) -> M:
        """End an operation; cancelling twice is no error.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION, reason OPERATION_ENDED, if it has SUCCEEDED or FAILED.
        """

        def change(operation: Any) -> None:
            if operation.state not in (OPERATION_STATE_RUNNING, OPERATION_STATE_CANCELLED):
                state = word(OperationState, operation.state)
                message = f"'{name}' is {state} already; there is nothing to cancel."
                raise failed_precondition("OPERATION_ENDED", message, name)
            operation.state = OPERATION_STATE_CANCELLED

        async def drop(connection: Connection, _before: M, _after: M) -> None:
            await self._backlog.drop(connection, name)

        cancelled = await self.store.modify(name, change, on_change=drop)
        self.runner.stop(name)
        return await self._shown(cancelled)

    async def delete(self, name: str, etag: str = "") -> None:
        """Delete an operation, and end it if it goes on. LatheError NOT_FOUND, or ABORTED for a stale etag."""
        await self.store.delete(name, etag)
        self.runner.stop(name)

    async def _shown(self, operation: M) -> M:
        await self._set_progress([operation])
        if self._complete is not None and getattr(operation, "state") == OPERATION_STATE_SUCCEEDED:  # noqa: B009 - not in Message
            await self._complete(operation)
        return operation

    async def _set_progress(self, operations: Sequence[Any]) -> None:
        running = [each for each in operations if _is_running(each)]
        done = await self._backlog.progress(each.name for each in running) if running else {}
        for each in running:
            each.progress = done.get(each.name) or 0.0


class _Job(Generic[M]):
    """The work of one kind of operation, as a runner does it."""

    def __init__(self, store: ResourceStore[M], backlog: Backlog, work: Work[M]) -> None:
        self._store = store
        self._backlog = backlog
        self._work = work

    @property
    def noun(self) -> str:
        return self._work.noun

    @property
    def at_once(self) -> int:
        return self._work.at_once

    async def run(self, claim: Claim, standing: Standing) -> None:
        operation: Any = await self._store.find("name", claim.key)
        if operation is None:
            raise LostError
        with acting_as(operation.owner):
            result = await self._work.do(operation, standing)

        def change(stored: Any) -> None:
            stored.MergeFrom(result)
            stored.state, stored.progress = OPERATION_STATE_SUCCEEDED, 1.0

        await self._end(claim, change)

    async def fail(self, claim: Claim, failure: EngineFailure, standing: Standing) -> None:
        told = failure_message(failure, standing.stage, _LONGEST, {})

        def change(stored: Any) -> None:
            stored.state = OPERATION_STATE_FAILED
            stored.failure.CopyFrom(told)

        await self._end(claim, change)

    async def _end(self, claim: Claim, change: Any) -> None:
        async def end(connection: Connection, _before: M, _after: M) -> None:
            if not await self._backlog.end(connection, claim):
                raise LostError

        try:
            await self._store.modify(claim.key, change, on_change=end)
        except LatheError as error:  # it was deleted
            raise LostError(error.message) from error


def _is_running(operation: Any) -> bool:
    return bool(operation.state == OPERATION_STATE_RUNNING)
