"""The consequences of a task's end: its followers get their answer, and its holds are released.

Runs beside the projector; the sweeper repeats what a crash interrupted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextvars import Context
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import structlog
from google.protobuf.message import Message
from lathe.internal.v1.event_pb2 import TaskAssignment
from lathe.type.v1 import failure_pb2, task_pb2

from services.platform.errors import LatheError
from services.platform.identity import acting_as, current_user
from services.tasks.api.completion import refusal
from services.tasks.api.ledger import Ledger
from services.tasks.state.commands import LeaderFailed, LeaderSucceeded, Promote
from services.tasks.state.rows import Change, TaskRow, timestamp

log = structlog.get_logger(__name__)

_INFRASTRUCTURE = frozenset({failure_pb2.FAILURE_REASON_WORKER_LOST, failure_pb2.FAILURE_REASON_INFRASTRUCTURE})


class Settler:
    """Settles ended tasks in the background."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._kind = ledger.codec.kind
        self._running: set[asyncio.Task[None]] = set()

    def settle(self, rows: Sequence[TaskRow]) -> None:
        """Take rows of tasks that have just ended; returns at once."""
        if any(row.leading or row.held for row in rows):
            task = asyncio.create_task(self._settle(rows))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def let_go(self, task_name: str, spec: Message) -> None:
        """Release what was held for a task that does not come to be; returns at once.

        It is no part of the call that was to create the task, which may be out of time.
        """
        task = asyncio.create_task(self._let_go(task_name, spec, current_user()), context=Context())
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Wait for what is running."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _settle(self, rows: Sequence[TaskRow]) -> None:
        try:
            await self.answer_followers([row for row in rows if row.leading])
            await self.release([row for row in rows if row.held])
        except Exception as error:
            log.warning("settle.deferred", error=str(error) or type(error).__name__)

    async def _let_go(self, task_name: str, spec: Message, owner: str) -> None:
        try:
            with acting_as(owner):
                await self._kind.release(task_name, spec)
        except Exception as error:  # it ends by itself
            log.warning("settle.not_released", task=task_name, error=str(error) or type(error).__name__)

    async def renew(self, rows: Sequence[TaskRow]) -> None:
        """Let what tasks hold be held for longer."""
        if rows:
            await self._kind.renew([self._ledger.codec.name_of(row.uid) for row in rows])

    async def release(self, rows: Sequence[TaskRow]) -> None:
        """Release what ended tasks held."""
        released: list[UUID] = []
        for row in rows:
            task = self._ledger.codec.message(row)
            with acting_as(task.owner):
                await self._kind.release(task.name, task.spec)
            released.append(row.uid)
        if released:
            await self._ledger.store.released(released)

    async def answer_followers(self, leaders: Sequence[TaskRow]) -> None:
        """Give the followers of ended tasks the result, or the work itself."""
        if not leaders:
            return
        by_uid = {row.uid: row for row in leaders}
        waiting: dict[UUID, list[TaskRow]] = {}
        for follower in await self._ledger.store.followers(by_uid):
            if follower.leader is not None and follower.state == task_pb2.TASK_STATE_PENDING:
                waiting.setdefault(follower.leader, []).append(follower)
        for uid, followers in waiting.items():
            await self._answer(by_uid[uid], followers)

    async def _answer(self, leader: TaskRow, followers: list[TaskRow]) -> None:
        task = self._ledger.codec.message(leader)
        # What was only handed on has no action key, and is no outcome for others before it is recorded.
        if leader.outcome is not None and (leader.action_key or leader.state == task_pb2.TASK_STATE_SUCCEEDED):
            unanswered = [row for row in followers if not await self._share(leader, task, row)]
            await self._promote(unanswered)
        elif leader.state == task_pb2.TASK_STATE_FAILED and not _worth_another_try(task.status.failure):
            for row in followers:
                await self._ledger.command(row.uid, LeaderFailed(timestamp(), task.status.failure))
        else:
            await self._promote(followers)

    async def _share(self, leader: TaskRow, original: Any, row: TaskRow) -> bool:
        """Answer a follower from the leader's outcome; False if the files that it names are gone."""
        try:
            result = await self.shared_result(leader, original, self._ledger.codec.message(row))
        except (LatheError, grpc.aio.AioRpcError) as error:
            failure = refusal(error)
            if failure is None:
                raise  # the sweeper tries again
            await self._ledger.command(row.uid, LeaderFailed(timestamp(), failure))
            return True
        if result is None:
            return False
        # If the leader has no result, others share what is registered for this follower.
        kept = leader if leader.state != task_pb2.TASK_STATE_SUCCEEDED else None
        await self._ledger.command(
            row.uid,
            LeaderSucceeded(timestamp()),
            result=result,
            shared_from=original,
            action_key=kept.action_key if kept else None,
            outcome=kept.outcome if kept else None,
        )
        return True

    async def shared_result(self, leader: TaskRow, original: Any, task: Any, standing: Collection[str] = ()) -> Any:
        """Return the result of `task` from what `leader` did, its `origin` filled in; None if that is gone.

        See `TaskKind.share`.
        """
        outcome = self._kind.outcome_type.FromString(leader.outcome or b"")
        work = TaskAssignment.FromString(leader.assignment).work
        self._ledger.codec.share_origin(task.origin, original, task.project)
        with acting_as(task.owner):
            return await self._kind.share(task, original, outcome, work, standing)

    async def _promote(self, followers: list[TaskRow]) -> None:
        """Let the oldest follower do the work, and the others follow it."""
        if not followers:
            return
        first, rest = followers[0], followers[1:]
        folded = self._ledger.fold(first, [Promote(timestamp())])
        change = self._ledger.change(folded)
        try:
            await self._ledger.commit([replace(change, new=change.new._replace(leading=True))])
            leader, project = first.uid, first.project
        except asyncpg.UniqueViolationError:
            # A task created meanwhile took the lead: all of them follow it.
            found = await self._ledger.store.leader_of(first.work_key)
            if found is None:
                return
            (leader, project), rest = found, followers
        moved = [Change(row, row._replace(leader=leader, leader_project=project)) for row in rest]
        await self._ledger.store.save(moved, datetime.now(UTC))


def _worth_another_try(failure: failure_pb2.Failure) -> bool:
    return failure.retryable or failure.reason in _INFRASTRUCTURE
