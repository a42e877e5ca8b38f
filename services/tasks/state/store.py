"""The task tables of one service: rows are created and changed together with what must be published about them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg
from lathe.watch.v1.change_pb2 import CHANGE_TYPE_CREATED, CHANGE_TYPE_DELETED, CHANGE_TYPE_UPDATED

from services.audit.entries import created_row, note
from services.bus.topology import change_subject
from services.changes.publisher import Publisher
from services.database.locks import take_turn
from services.database.pool import Connection, Database
from services.platform.quotas import exceeded
from services.tasks.state.news import news_of
from services.tasks.state.reader import UIDS, TaskReader
from services.tasks.state.rows import Change, Created, NewTask, TaskCodec, TaskRow
from services.tasks.state.statements import CREATE, DELETE, RENAME, SAVE

_RELEASED = f"UPDATE tasks SET held = FALSE WHERE uid = ANY ({UIDS})"  # noqa: S608
_PENDING = "SELECT count(*) FROM (SELECT FROM tasks WHERE project = $1 AND state = 1 LIMIT $2) AS waiting"


class RequestRepeatedError(Exception):
    """The caller used this request_id before."""


class TaskStore(TaskReader):
    """Creates and changes tasks, and reads them."""

    def __init__(self, database: Database, codec: TaskCodec, publisher: Publisher) -> None:
        super().__init__(database, codec)
        self._publisher = publisher

    async def create(self, task: NewTask, *, sent: bool = False, most_waiting: int = 0) -> Created:
        """Create a row, and one in the queue, in one statement.

        Args:
            task: The task.
            sent: Whether its message is sent at once.
            most_waiting: How many tasks of its project may be PENDING; any number if 0.

        Raises:
            RequestRepeatedError: The owner used the request_id before.
            LatheError: RESOURCE_EXHAUSTED, reason QUOTA_EXCEEDED.
        """
        if not most_waiting:
            return await self._create(self._database, task, sent)
        project = task.row.project
        while True:
            try:
                async with self._database.transaction() as connection:
                    # Replicas count one after the other, and each sees what the one before has created.
                    await take_turn(connection, f"{self._codec.kind.name} of {project}")
                    waiting = await connection.fetchval(_PENDING, project, most_waiting)
                    if waiting >= most_waiting:
                        kind = self._codec.kind.name
                        raise exceeded(project, "waiting_tasks", f"{kind} tasks that wait", most_waiting, waiting)
                    return await self._create(connection, task, sent)
            except asyncpg.UniqueViolationError:
                continue  # another task took the lead in this very moment: the next try finds it

    async def _create(self, writer: Connection | Database, task: NewTask, sent: bool) -> Created:
        row = task.row
        while True:
            try:
                record = await writer.fetchrow(
                    CREATE,
                    row.uid,
                    task.name,
                    task.display_name,
                    task.owner,
                    dict(task.labels),
                    task.create_time,
                    task.search_text,
                    row.device,
                    row.state,
                    task.request_id,
                    task.request_digest,
                    row.work_key,
                    row.held,
                    list(task.action_keys),
                    task.shares,
                    row.assignment,
                    row.body,
                    row.live,
                    task.msg_id,
                    list(task.uses),
                    row.action_key,
                    row.outcome,
                    task.priority,
                    sent,
                    self._subject(row),
                    news_of(self._codec, row, CHANGE_TYPE_CREATED, 1, task.create_time),
                    row.project,
                    *created_row(task.name, self._codec.kind.task_type, row.body, row.project),
                )
            except asyncpg.UniqueViolationError as error:
                if error.constraint_name == "tasks_request":
                    raise RequestRepeatedError from None
                if writer is not self._database:
                    raise  # it has ended the transaction
                continue  # another task took the lead in this very moment: the next try finds it
            assert record is not None
            self._publisher.wake()
            return Created(*record)

    async def save(self, changes: Sequence[Change], now: datetime, *, noted: bool = False) -> set[UUID]:
        """Write changes with their messages, in one statement; returns the uids of those that were written.

        With `noted`, they are in the audit log as changes of the current call.
        """
        if not changes:
            return set()
        rows = sorted(changes, key=lambda change: change.old.uid)
        outbox = [item for change in rows for item in change.outbox]
        columns = _columns([_values(change) for change in rows], 10)
        messages = _columns([(item.task, item.subject, item.msg_id, item.payload) for item in outbox], 4)
        news = _columns([self._news(change.new, change.old.revision + 1, now) for change in rows], 2)
        again = [change.dispatch for change in rows if change.dispatch is not None]
        sent_again = _columns([(each.task, each.msg_id, each.payload, each.handed_on) for each in again], 4)
        for attempt in range(3):
            try:
                async with self._writing(noted) as writer:
                    records = await writer.fetch(SAVE, *columns, now, *messages, *news, *sent_again)
                    written = {record[0] for record in records}
                    for change in rows if noted else ():
                        if change.old.uid in written:
                            before, after = self._codec.message(change.old), self._codec.message(change.new)
                            await note(writer, before, after, change.old.project)
                break
            except asyncpg.DeadlockDetectedError:
                if attempt == 2:
                    raise
        self._publisher.wake()
        return written

    async def rename(
        self, row: TaskRow, body: bytes, *, display_name: str, labels: Mapping[str, str], search: str, now: datetime
    ) -> bool:
        """Write what users may edit; False if somebody else was faster."""
        edited = row._replace(body=body)
        async with self._database.transaction() as connection:
            renamed = await connection.fetchval(
                RENAME,
                row.uid,
                row.revision,
                body,
                display_name,
                dict(labels),
                search,
                now,
                *self._news(edited, row.revision + 1, now),
            )
            if renamed:
                await note(connection, self._codec.message(row), self._codec.message(edited), row.project)
        self._publisher.wake()
        return bool(renamed)

    async def delete(self, row: TaskRow) -> bool:
        """Delete a row, but remember its request; False if somebody else was faster."""
        news = news_of(self._codec, row, CHANGE_TYPE_DELETED, row.revision + 1, datetime.now(UTC))
        async with self._database.transaction() as connection:
            gone = await connection.fetchval(DELETE, row.uid, row.revision, self._subject(row), news)
            if gone:
                await note(connection, self._codec.message(row), None, row.project)
        self._publisher.wake()
        return bool(gone)

    async def forget_result(self, uid: UUID) -> None:
        """Take a task out of the action cache: what it made is gone."""
        await self._database.execute("UPDATE tasks SET action_key = NULL WHERE uid = $1", uid)

    async def released(self, uids: Sequence[UUID]) -> None:
        """Note that terminal tasks no longer hold anything."""
        await self._database.execute(_RELEASED, list(uids))

    @asynccontextmanager
    async def _writing(self, noted: bool) -> AsyncIterator[Connection]:
        """Borrow a connection: in a transaction if more than one statement will be written."""
        async with self._database.transaction() if noted else self._database.connection() as connection:
            yield connection

    def _subject(self, row: TaskRow) -> str:
        return change_subject(self._codec.kind.name, str(row.uid))

    def _news(self, row: TaskRow, revision: int, now: datetime) -> tuple[str, bytes]:
        return self._subject(row), news_of(self._codec, row, CHANGE_TYPE_UPDATED, revision, now)


def _columns(rows: Sequence[tuple[Any, ...]], count: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in range(count)]


def _values(change: Change) -> tuple[Any, ...]:
    new = change.new
    first = (new.uid, change.old.revision, new.state, new.live, new.leading, new.leader)
    return (*first, new.action_key, new.outcome, new.held, new.dispatches)
