"""Rows of the task tables as values, and how they become task messages and machine states."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from lathe.internal.v1 import event_pb2
from lathe.type.v1 import task_pb2

from services.database.pool import Record
from services.platform.changes import etag_of
from services.resources.search import search_text
from services.tasks.kind import TaskKind
from services.tasks.state.machine import OPEN, TaskSnapshot
from services.tasks.state.queue import Dispatch

MAX_ATTEMPTS_DEFAULT = 3
ELSEWHERE = "-"
"""Stands for the id of a task of another project, which is named to nobody."""


def columns_of(table: str) -> str:
    """Return what is selected of the task table, or of a query of its rows, to make rows of it."""
    leader_project = f"(SELECT l.project FROM tasks l WHERE l.uid = {table}.leader)"  # noqa: S608 - our own words
    return (
        "uid, revision, update_time, state, device, work_key, leads, leader, action_key, dispatches, held, assignment, "
        f"body, live, outcome, project, {leader_project}"
    )


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """A message to publish after its transaction is committed."""

    task: UUID
    subject: str
    msg_id: str
    payload: bytes
    id: int = 0


class TaskRow(NamedTuple):
    """A row of the task table, as it was read."""

    uid: UUID
    revision: int
    update_time: datetime
    state: int
    device: str
    work_key: bytes
    leading: bool
    leader: UUID | None
    action_key: bytes | None
    dispatches: int
    held: bool
    assignment: bytes
    body: bytes
    live: bytes
    outcome: bytes | None
    project: str
    leader_project: str | None = None

    @classmethod
    def of(cls, record: Record) -> TaskRow:
        """Return the row of a record with `columns_of` its table first."""
        return cls._make(record[:17])


@dataclass(frozen=True, slots=True)
class Change:
    """A new version of a row, written only if nobody else wrote since it was read.

    `step` is what the state machine made of what, if it was asked.
    """

    old: TaskRow
    new: TaskRow
    outbox: Sequence[OutboxItem] = field(default=())
    dispatch: Dispatch | None = None
    step: tuple[TaskSnapshot, TaskSnapshot] | None = None


class NewTask(NamedTuple):
    """A row to create. `action_keys` are looked up first; `msg_id` is empty if no worker is needed."""

    row: TaskRow
    name: str
    display_name: str
    owner: str
    labels: Mapping[str, str]
    create_time: datetime
    search_text: str
    request_id: UUID | None
    request_digest: bytes | None
    action_keys: Sequence[bytes]
    shares: bool
    msg_id: str
    uses: Sequence[str] = ()
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Created:
    """The outcome of a create: `hit` names the task whose result serves, and then nothing was created."""

    hit: UUID | None
    leader: UUID | None
    leader_project: str | None
    queued: bool


class TaskCodec:
    """Turns rows into messages of one kind and back."""

    def __init__(self, kind: TaskKind, max_attempts: int = MAX_ATTEMPTS_DEFAULT) -> None:
        self.kind = kind
        self.max_attempts = max_attempts

    def name_of(self, uid: UUID) -> str:
        """Return the resource name of a task."""
        return f"{self.kind.collection}/{uid}"

    def uid_of(self, name: str) -> UUID | None:
        """Return the uid in a resource name; None if it can name no task."""
        collection, _, identifier = name.partition("/")
        try:
            uid = UUID(identifier)
        except ValueError:
            return None
        return uid if collection == self.kind.collection and str(uid) == identifier else None

    def message(self, row: TaskRow) -> Any:
        """Return the whole task message."""
        task: Any = self.kind.task_type()
        self.fill(task, row)
        return task

    def fill(self, task: Any, row: TaskRow) -> None:
        """Set an empty task message."""
        # Serialized messages of one type may be concatenated; the two halves share no field.
        task.MergeFromString(row.body + row.live)
        task.update_time.FromDatetime(row.update_time)
        task.etag = etag_of(row.uid, row.revision)
        task.status.revision = row.revision
        task.project = row.project
        if row.leader is not None and row.state == task_pb2.TASK_STATE_PENDING:
            leader = self.name_of(row.leader) if row.leader_project == row.project else "A task of another project"
            task.status.pending_reason = f"{leader} does the same work; this task will share its result."

    def snapshot(self, row: TaskRow) -> TaskSnapshot:
        """Return the state machine's view of a row."""
        live: Any = self.kind.task_type.FromString(row.live)
        return TaskSnapshot(
            status=live.status,
            attempts=tuple(live.attempts),
            follows=self.name_of(row.leader) if row.leader is not None else "",
            max_attempts=self.max_attempts,
        )

    def live(self, snapshot: TaskSnapshot, origin: task_pb2.TaskOrigin, result: Message | None) -> bytes:
        """Return the changing half of a task message."""
        task: Any = self.kind.task_type(status=snapshot.status, attempts=snapshot.attempts, origin=origin)
        if result is not None:
            task.result.CopyFrom(result)
        data: bytes = task.SerializeToString()
        return data

    def succeeded(self, row: TaskRow, origin: task_pb2.TaskOrigin, result: Message) -> TaskRow:
        """Return the row of a task that needs no work of its own as SUCCEEDED with this result."""
        status = task_pb2.TaskStatus(state=task_pb2.TASK_STATE_SUCCEEDED, progress=1.0, end_time=timestamp())
        return row._replace(state=status.state, live=self.live(TaskSnapshot(status=status), origin, result))

    def advanced(
        self,
        row: TaskRow,
        snapshot: TaskSnapshot,
        *,
        result: Message | None = None,
        shared_from: Message | None = None,
        action_key: bytes | None = None,
        outcome: bytes | None = None,
    ) -> TaskRow:
        """Return the row with a new machine state; `shared_from` is the task whose work it shares."""
        old: Any = self.kind.task_type.FromString(row.live)
        if shared_from is not None:
            self.share_origin(old.origin, shared_from, row.project)
        state = snapshot.status.state
        return row._replace(
            state=state,
            live=self.live(snapshot, old.origin, result),
            leading=row.leading and state in OPEN,
            leader=row.leader if snapshot.follows else None,
            leader_project=row.leader_project if snapshot.follows else None,
            action_key=action_key or row.action_key,
            outcome=row.outcome if outcome is None else outcome,
        )

    def share_origin(self, origin: task_pb2.TaskOrigin, original: Any, project: str) -> None:
        """Write into the origin of a task of a project whose work it shares, and the environment of that work."""
        if original.project == project:
            origin.cache_hit = original.origin.cache_hit or original.name
        else:
            origin.cache_hit = f"{self.kind.collection}/{ELSEWHERE}"
        ran_with = [attempt.environment for attempt in original.attempts if attempt.environment]
        origin.environment = original.origin.environment or (ran_with[-1] if ran_with else "")

    def redispatch(self, row: TaskRow, snapshot: TaskSnapshot) -> tuple[TaskRow, bytes]:
        """Return the row with one dispatch more, and the assignment to send: its attempts go on from the newest."""
        assignment = event_pb2.TaskAssignment.FromString(row.assignment)
        assignment.attempt_base = snapshot.attempt
        assignment.attempts_returned = snapshot.returned
        if snapshot.handed_on is not None:
            assignment.built.Pack(self.kind.outcome_type.FromString(row.outcome or b""), deterministic=True)
        return row._replace(dispatches=row.dispatches + 1), assignment.SerializeToString()


def related(kind: TaskKind, spec: Message, group: str) -> list[str]:
    """Return the names by which lists find a task: what its specification uses, and the group that it belongs to."""
    return [*kind.uses(spec), *([group] if group else [])]


def timestamp(moment: datetime | None = None) -> Timestamp:
    """Return the moment, or now, as a protobuf timestamp."""
    if moment is None:
        nanoseconds = time.time_ns()
        # As precise as the rows are: a microsecond.
        return Timestamp(seconds=nanoseconds // 10**9, nanos=nanoseconds % 10**9 // 1000 * 1000)
    result = Timestamp()
    result.FromDatetime(moment)
    return result


def searchable(uid: UUID, display_name: str) -> str:
    """Return the text that searches look through: the id and the name."""
    return f"{uid.hex} {search_text([display_name])}"
