"""What creation writes of a task: its row, the work for its worker, and what it is found by."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import uuid_utils.compat
from google.protobuf.message import Message
from lathe.internal.v1 import event_pb2
from lathe.type.v1 import task_pb2

from services.platform.errors import invalid_argument
from services.platform.identity import current_user
from services.platform.messages import MAX_TASK_BYTES
from services.platform.telemetry import current_traceparent
from services.tasks.api.cache import ActionCache, work_key
from services.tasks.api.request import TaskRequest
from services.tasks.kind import PreparedTask
from services.tasks.state.machine import TaskSnapshot, pending
from services.tasks.state.rows import NewTask, TaskCodec, TaskRow, related, searchable, timestamp


def draft_task(
    codec: TaskCodec,
    cache: ActionCache,
    wanted: TaskRequest,
    prepared: PreparedTask,
    request_id: UUID | None,
    *,
    max_bytes: int,
) -> NewTask:
    """Return what creation writes, PENDING.

    Args:
        codec: Of the kind of task.
        cache: Knows under which keys the outcome of equal work may be found.
        wanted: The request.
        prepared: Its checked specification.
        request_id: By which a repeat of the request is known, if it has one.
        max_bytes: The most that a message on the bus may have.

    Raises:
        LatheError: INVALID_ARGUMENT, reason TASK_TOO_LARGE or WORK_TOO_LARGE.
    """
    uid = uuid_utils.compat.uuid7()
    now = datetime.now(UTC)
    name = codec.name_of(uid)
    owner = current_user()
    display_name = wanted.display_name or prepared.display_name
    bare = prepared.work if prepared.bare is None else prepared.bare
    assignment = _assignment(codec.kind.name, uid, prepared, bare if wanted.skip_cache else prepared.work)
    key = work_key(codec.kind.name, prepared.device, bare, owner if prepared.owned else "")
    origin = task_pb2.TaskOrigin(
        retry_of=wanted.retry_of,
        resubmission_of=wanted.resubmission_of,
        work_key=key.hex(),
        group=wanted.group,
    )
    task: Any = codec.kind.task_type(
        name=name,
        uid=str(uid),
        display_name=display_name,
        labels=wanted.labels,
        owner=owner,
        create_time=timestamp(now),
        spec=wanted.spec,
        device=prepared.device,
        priority=wanted.priority,
    )
    prepared.fill(task)
    keys = [] if wanted.skip_cache else cache.keys(prepared.device, key, wanted.retried)
    row = TaskRow(
        uid=uid,
        revision=1,
        update_time=now,
        state=task_pb2.TASK_STATE_PENDING,
        device=prepared.device,
        work_key=key,
        leading=False,
        leader=None,
        action_key=None,
        dispatches=1,
        held=False,
        assignment=assignment.SerializeToString(),
        body=task.SerializeToString(),
        live=codec.live(TaskSnapshot(status=pending()), origin, None),
        outcome=None,
        project=prepared.project,
    )
    _check_size(row, max_bytes)
    return NewTask(
        row=row,
        name=name,
        display_name=display_name,
        owner=owner,
        labels=wanted.labels,
        create_time=now,
        search_text=searchable(uid, display_name),
        request_id=request_id,
        request_digest=wanted.fingerprint if request_id is not None else None,
        action_keys=keys,
        shares=not wanted.skip_cache,
        msg_id=f"{uid}:1",
        uses=related(codec.kind, wanted.spec, wanted.group),
        priority=wanted.priority,
    )


def _assignment(kind: str, uid: UUID, prepared: PreparedTask, work: Message) -> event_pb2.TaskAssignment:
    assignment = event_pb2.TaskAssignment(
        kind=kind,
        task_id=str(uid),
        device=prepared.device,
        timeout_seconds=prepared.timeout_seconds,
        memory_limit_bytes=prepared.memory_limit_bytes,
        traceparent=current_traceparent(),
    )
    if prepared.owned:
        assignment.owner_key = hashlib.sha256(current_user().encode()).hexdigest()
    assignment.work.Pack(work, deterministic=True)
    return assignment


def _check_size(row: TaskRow, max_bytes: int) -> None:
    if len(row.body) > MAX_TASK_BYTES:
        raise invalid_argument(
            "spec",
            f"The task would be a message of {len(row.body)} bytes; at most {MAX_TASK_BYTES} are allowed. Shorten "
            "the lists and texts of its specification.",
            reason="TASK_TOO_LARGE",
        )
    if (size := len(row.assignment)) > max_bytes:
        raise invalid_argument(
            "spec",
            f"The work that it asks for is a message of {size} bytes, and the message bus takes {max_bytes}. "
            "Refer to fewer or smaller things in it, or let the operator raise max_payload of NATS.",
            reason="WORK_TOO_LARGE",
        )
