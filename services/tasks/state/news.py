"""What the stream of changes says of a task."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.protobuf.message import Message
from lathe.watch.v1.change_pb2 import Change, ChangeType, TaskSummary

from services.changes.outbox import payload_of
from services.tasks.state.rows import TaskCodec, TaskRow, related, timestamp

_SHARED = ("name", "uid", "display_name", "owner", "device", "priority", "project")


def news_of(codec: TaskCodec, row: TaskRow, change: ChangeType.ValueType, revision: int, time: datetime) -> bytes:
    """Return the payload of a change.

    Args:
        codec: Of the task's kind.
        row: The row after the change; before it, if it is deleted.
        change: What the change did.
        revision: That the row has after the change; one more than its last, if it is deleted.
        time: When it is committed.
    """
    task = codec.message(row._replace(revision=revision, update_time=time))
    news = Change(name=task.name, uid=task.uid, type=change, revision=revision, time=timestamp(time))
    news.task.CopyFrom(summary_of(codec.kind.name, task))
    news.task.uses.extend(related(codec.kind, task.spec, task.origin.group))
    return payload_of(news)


def summary_of(kind: str, task: Message) -> TaskSummary:
    """Return what a task has in common with those of other kinds; what its specification names is left out."""
    whole: Any = task
    summary = TaskSummary(kind=kind, labels=whole.labels, **{name: getattr(whole, name) for name in _SHARED})
    summary.create_time.CopyFrom(whole.create_time)
    summary.update_time.CopyFrom(whole.update_time)
    summary.status.CopyFrom(whole.status)
    return summary
