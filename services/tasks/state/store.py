"""The task tables of one service: rows are created and changed together with what must be published about them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from google.protobuf.message import Message

from services.database.pool import Database
from services.resources.listing import ORDER_FIELDS, Listing, ListQuery, list_page
from services.tasks.kind import DETAILS
from services.tasks.state.rows import COLUMNS, Change, Created, NewTask, TaskRow

M = TypeVar("M", bound=Message)
# One that ended without a result could not be registered: its outcome serves, but one with a result is better. Each key
# is looked up by itself (OFFSET 0 keeps the planner from merging the queries): for several keys at once it would choose
# to read the whole table while that is small, or all tasks of a state, and keep to that plan as the table grows.
_HIT = """
SELECT found.uid FROM unnest({keys}::bytea[]) AS wanted (key) CROSS JOIN LATERAL (
    SELECT uid, state FROM tasks WHERE action_key = wanted.key AND outcome IS NOT NULL OFFSET 0
) AS found WHERE found.state IN (3, 4, 6) ORDER BY found.state = 3 DESC, found.uid DESC LIMIT 1
"""

_CREATE = f"""
WITH hit AS ({_HIT.format(keys="$14")}),
lead AS (SELECT uid FROM tasks WHERE $15 AND leads AND work_key = $12),
made AS (
    INSERT INTO tasks (uid, name, display_name, owner, labels, create_time, update_time, revision, search_text, device,
        state, request_id, request_digest, work_key, leads, leader, dispatches, held, assignment, body, live,
        uses, action_key, outcome)
    SELECT $1, $2, $3, $4, $5, $6, $6, 1, $7, $8, $9, $10, $11, $12, $15 AND NOT EXISTS (SELECT FROM lead),
        (SELECT uid FROM lead), 1, $13, $16, $17, $18, $21, $22, $23
    WHERE NOT EXISTS (SELECT FROM hit)
    RETURNING uid, leader
),
sent AS (
    INSERT INTO outbox (task, subject, msg_id) SELECT uid, $19, $20 FROM made WHERE leader IS NULL AND $19 <> ''
    RETURNING id
)
SELECT (SELECT uid FROM hit), (SELECT leader FROM made), (SELECT id FROM sent)
"""  # noqa: S608 - our own words

_SAVE = """
WITH new AS (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::smallint[], $4::bytea[], $5::boolean[], $6::uuid[], $7::bytea[],
        $8::bytea[], $9::boolean[], $10::integer[])
    AS n (uid, revision, state, live, leads, leader, action_key, outcome, held, dispatches)
),
saved AS (
    UPDATE tasks t SET state = n.state, live = n.live, leads = n.leads, leader = n.leader,
        action_key = n.action_key, outcome = n.outcome, held = n.held, dispatches = n.dispatches,
        revision = t.revision + 1, update_time = $11
    FROM new n WHERE t.uid = n.uid AND t.revision = n.revision
    RETURNING t.uid
),
sent AS (
    INSERT INTO outbox (task, subject, msg_id, payload)
    SELECT o.task, o.subject, o.msg_id, o.payload
    FROM unnest($12::uuid[], $13::text[], $14::text[], $15::bytea[]) AS o (task, subject, msg_id, payload)
    JOIN saved ON saved.uid = o.task
)
SELECT uid FROM saved
"""

_DELETE = """
WITH gone AS (
    DELETE FROM tasks WHERE uid = $1 AND revision = $2 RETURNING uid, owner, request_id, request_digest
),
remembered AS (
    INSERT INTO request_ids (owner, request_id, method, fingerprint, resource)
    SELECT owner, request_id, 'Create', request_digest, uid FROM gone WHERE request_id IS NOT NULL
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM gone
"""

LISTING = Listing(
    table="tasks",
    columns=COLUMNS,
    stored=("assignment", "body", "live", "coalesce(outcome, '')"),
    details=DETAILS,
    order_fields={**ORDER_FIELDS, "device": str, "state": int},
    arrays=frozenset({"uses"}),
)


class RequestRepeatedError(Exception):
    """The caller used this request_id before."""


class TaskStore:
    """The tables of `services.tasks.state.schema` in the service's own PostgreSQL schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, task: NewTask) -> Created:
        """Create a row and the message that dispatches it, in one statement.

        Raises:
            RequestRepeatedError: The owner used the request_id before.
        """
        row = task.row
        while True:
            try:
                record = await self._database.fetchrow(
                    _CREATE,
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
                    task.subject,
                    task.msg_id,
                    list(task.uses),
                    row.action_key,
                    row.outcome,
                )
            except asyncpg.UniqueViolationError as error:
                if error.constraint_name == "tasks_request":
                    raise RequestRepeatedError from None
                continue  # another task took the lead in this very moment: the next try finds it
            assert record is not None
            return Created(record[0], record[1], record[2])

    async def save(self, changes: Sequence[Change], now: datetime) -> set[UUID]:
        """Write changes with their messages, in one statement; returns the uids of those that were written."""
        if not changes:
            return set()
        rows = sorted(changes, key=lambda change: change.old.uid)
        outbox = [item for change in rows for item in change.outbox]
        columns = zip(*(_values(change) for change in rows), strict=True)
        sent = zip(*((item.task, item.subject, item.msg_id, item.payload) for item in outbox), strict=True)
        messages: list[Any] = [list(column) for column in sent] or [[], [], [], []]
        for attempt in range(3):
            try:
                records = await self._database.fetch(_SAVE, *(list(column) for column in columns), now, *messages)
                return {record[0] for record in records}
            except asyncpg.DeadlockDetectedError:
                columns = zip(*(_values(change) for change in rows), strict=True)
                if attempt == 2:
                    raise
        return set()

    async def load(self, uids: Iterable[UUID]) -> dict[UUID, TaskRow]:
        """Return the rows that exist."""
        records = await self._database.fetch(f"SELECT {COLUMNS} FROM tasks WHERE uid = ANY ($1)", list(uids))  # noqa: S608
        return {record[0]: TaskRow.of(record) for record in records}

    async def get(self, uid: UUID) -> TaskRow | None:
        """Return a row."""
        return (await self.load([uid])).get(uid)

    async def find_request(self, owner: str, request_id: UUID) -> tuple[TaskRow, bytes] | None:
        """Return what a caller created with a request_id, and the digest of that request."""
        query = f"SELECT {COLUMNS}, request_digest FROM tasks WHERE owner = $1 AND request_id = $2"  # noqa: S608
        record = await self._database.fetchrow(query, owner, request_id)
        return None if record is None else (TaskRow.of(record), record["request_digest"])

    async def find_deleted(self, owner: str, request_id: UUID) -> bytes | None:
        """Return the digest of a request whose task is deleted."""
        query = "SELECT fingerprint FROM request_ids WHERE owner = $1 AND request_id = $2 AND method = 'Create'"
        digest: bytes | None = await self._database.fetchval(query, owner, request_id)
        return digest

    async def list(self, query: ListQuery, show: Callable[[TaskRow], M]) -> tuple[list[M], str]:
        """Return one page of what `show` makes of rows, and the token of the next."""
        return await list_page(self._database, LISTING, query, lambda record: show(TaskRow.of(record)))

    async def followers(self, leaders: Iterable[UUID]) -> Sequence[TaskRow]:
        """Return the tasks that await the result of one of these, oldest first."""
        query = f"SELECT {COLUMNS} FROM tasks WHERE leader = ANY ($1) ORDER BY create_time, uid"  # noqa: S608
        return [TaskRow.of(record) for record in await self._database.fetch(query, list(leaders))]

    async def leader_of(self, work_key: bytes) -> UUID | None:
        """Return the task in flight that others with this work follow."""
        query = "SELECT uid FROM tasks WHERE leads AND work_key = $1"
        uid: UUID | None = await self._database.fetchval(query, work_key)
        return uid

    async def unsettled(self, after: UUID, limit: int = 1000) -> Sequence[TaskRow]:
        """Return a page of the tasks that are not terminal, or terminal with something still held, ordered by uid."""
        query = (
            f"SELECT {COLUMNS} FROM tasks WHERE (state IN (1, 2, 5) OR (held AND state IN (3, 4, 6))) "  # noqa: S608
            "AND uid > $1 ORDER BY uid LIMIT $2"
        )
        return [TaskRow.of(record) for record in await self._database.fetch(query, after, limit)]

    async def rename(
        self, row: TaskRow, body: bytes, *, display_name: str, labels: Mapping[str, str], search: str, now: datetime
    ) -> bool:
        """Write what users may edit; False if somebody else was faster."""
        tag = await self._database.execute(
            "UPDATE tasks SET body = $3, display_name = $4, labels = $5, search_text = $6, revision = revision + 1, "
            "update_time = $7 WHERE uid = $1 AND revision = $2",
            row.uid,
            row.revision,
            body,
            display_name,
            dict(labels),
            search,
            now,
        )
        return tag == "UPDATE 1"

    async def delete(self, row: TaskRow) -> bool:
        """Delete a row, but remember its request; False if somebody else was faster."""
        return bool(await self._database.fetchval(_DELETE, row.uid, row.revision))

    async def find_result(self, action_keys: Sequence[bytes]) -> UUID | None:
        """Return the ended task whose outcome serves one of these actions, or None."""
        found: UUID | None = await self._database.fetchval(_HIT.format(keys="$1"), list(action_keys))
        return found

    async def forget_result(self, uid: UUID) -> None:
        """Take a task out of the action cache: what it made is gone."""
        await self._database.execute("UPDATE tasks SET action_key = NULL WHERE uid = $1", uid)

    async def released(self, uids: Sequence[UUID]) -> None:
        """Note that terminal tasks no longer hold anything."""
        await self._database.execute("UPDATE tasks SET held = FALSE WHERE uid = ANY ($1)", list(uids))


def _values(change: Change) -> tuple[Any, ...]:
    new = change.new
    first = (new.uid, change.old.revision, new.state, new.live, new.leading, new.leader)
    return (*first, new.action_key, new.outcome, new.held, new.dispatches)
