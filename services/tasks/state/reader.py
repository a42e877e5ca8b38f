"""Reading the task tables of one service: for the engine itself, and for callers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar
from uuid import UUID

from google.protobuf.message import Message
from lathe.type.v1.task_pb2 import TaskState

from services.database.arrays import of_any_length
from services.database.pool import Database
from services.platform import access
from services.platform.errors import not_found
from services.resources.filters.fields import COMMON_FIELDS, NUMBER, TEXT, TEXTS, FilterField, Kind, word_field
from services.resources.listing import Entries, Listing, ListQuery, list_page
from services.tasks.kind import DETAILS
from services.tasks.state.rows import TaskCodec, TaskRow, columns_of
from services.tasks.state.statements import HIT

M = TypeVar("M", bound=Message)
_COLUMNS = columns_of("tasks")
LISTING = Listing(
    table="tasks",
    columns=columns_of("s"),
    stored=("assignment", "body", "live", "coalesce(outcome, '')"),
    details=DETAILS,
    fields={
        **COMMON_FIELDS,
        "device": TEXT,
        "state": word_field(TaskState),
        "priority": NUMBER,
        "uses": TEXTS,
        "group": FilterField(Kind.TEXTS, column="uses"),
        "project": TEXT,
    },
    visible="project = ANY ({})",
)
UIDS = of_any_length("$1::uuid[]")
"""The uids that a statement is given, however many: its plan is kept."""
_LOAD = f"SELECT {_COLUMNS} FROM tasks WHERE uid = ANY ({UIDS})"  # noqa: S608
_FOLLOWERS = f"SELECT {_COLUMNS} FROM tasks WHERE leader = ANY ({UIDS}) ORDER BY create_time, uid"  # noqa: S608
_FOUND = f"SELECT {_COLUMNS} FROM tasks WHERE uid = ({HIT.format(keys='$1')})"  # noqa: S608


class TaskReader:
    """Reads the tables of `services.tasks.state.schema` in the service's own PostgreSQL schema."""

    def __init__(self, database: Database, codec: TaskCodec) -> None:
        self._database = database
        self._codec = codec

    async def load(self, uids: Iterable[UUID]) -> dict[UUID, TaskRow]:
        """Return the rows that exist, for the engine itself: `read` is for callers."""
        records = await self._database.fetch(_LOAD, list(uids))
        return {record[0]: TaskRow.of(record) for record in records}

    async def get(self, uid: UUID) -> TaskRow | None:
        """Return a row, for the engine itself."""
        return (await self.load([uid])).get(uid)

    async def read(self, name: str) -> TaskRow:
        """Return the row of a task that the caller may see; LatheError NOT_FOUND if there is none."""
        return (await self.read_many([name]))[0]

    async def read_many(self, names: Sequence[str]) -> list[TaskRow]:
        """Return the rows of tasks in the order of their names; LatheError NOT_FOUND for one the caller may not see."""
        uids = [self._codec.uid_of(name) for name in names]
        rows = await self.load(uid for uid in uids if uid is not None)
        found = [None if uid is None else rows.get(uid) for uid in uids]
        for name, row in zip(names, found, strict=True):
            if row is None or not access.is_visible([row.project]):
                raise not_found("task", name)
        return [row for row in found if row is not None]

    async def to_change(self, name: str) -> TaskRow:
        """Return the row of a task that the caller may change.

        Raises:
            LatheError: NOT_FOUND if the caller may not even see it; PERMISSION_DENIED, reason ROLE_REQUIRED.
        """
        row = await self.read(name)
        access.require_change("task", name, row.project, [row.project])
        return row

    async def find_request(self, owner: str, request_id: UUID) -> tuple[TaskRow, bytes] | None:
        """Return what a caller created with a request_id, and the digest of that request."""
        query = f"SELECT {_COLUMNS}, request_digest FROM tasks WHERE owner = $1 AND request_id = $2"  # noqa: S608
        record = await self._database.fetchrow(query, owner, request_id)
        return None if record is None else (TaskRow.of(record), record["request_digest"])

    async def find_deleted(self, owner: str, request_id: UUID) -> bytes | None:
        """Return the digest of a request whose task is deleted."""
        query = "SELECT fingerprint FROM request_ids WHERE owner = $1 AND request_id = $2 AND method = 'Create'"
        digest: bytes | None = await self._database.fetchval(query, owner, request_id)
        return digest

    async def list(self, query: ListQuery, entries: Entries[M], show: Callable[[M, TaskRow], None]) -> str:
        """Make one page of what `show` sets from rows, and return the token of the next."""
        return await list_page(
            self._database, LISTING, query, entries, lambda task, record: show(task, TaskRow.of(record))
        )

    async def followers(self, leaders: Iterable[UUID]) -> Sequence[TaskRow]:
        """Return the tasks that await the result of one of these, oldest first."""
        return [TaskRow.of(record) for record in await self._database.fetch(_FOLLOWERS, list(leaders))]

    async def leader_of(self, work_key: bytes) -> tuple[UUID, str] | None:
        """Return the task in flight that others with this work follow, and its project."""
        found = await self._database.fetchrow("SELECT uid, project FROM tasks WHERE leads AND work_key = $1", work_key)
        return None if found is None else (found[0], found[1])

    async def unsettled(self, after: UUID, limit: int = 1000) -> Sequence[TaskRow]:
        """Return a page of the tasks that are not terminal, or terminal with something still held, ordered by uid."""
        query = (
            f"SELECT {_COLUMNS} FROM tasks WHERE (state IN (1, 2, 5) OR (held AND state IN (3, 4, 6))) "  # noqa: S608
            "AND uid > $1 ORDER BY uid LIMIT $2"
        )
        return [TaskRow.of(record) for record in await self._database.fetch(query, after, limit)]

    async def find_result(self, action_keys: Sequence[bytes]) -> TaskRow | None:
        """Return the ended task whose outcome serves one of these actions, or None."""
        record = await self._database.fetchrow(_FOUND, list(action_keys))
        return None if record is None else TaskRow.of(record)
