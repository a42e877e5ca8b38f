"""The states of the members of groups, read from their tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from lathe.type.v1.task_group_pb2 import (
    TASK_GROUP_STATE_ALL_SUCCEEDED,
    TASK_GROUP_STATE_IN_PROGRESS,
    TASK_GROUP_STATE_NONE_SUCCEEDED,
    TASK_GROUP_STATE_PARTLY_SUCCEEDED,
    TaskGroupMember,
    TaskGroupState,
)
from lathe.type.v1.task_pb2 import TASK_STATE_SUCCEEDED

from services.tasks.api.ledger import Ledger
from services.tasks.state.machine import OPEN
from services.tasks.state.rows import TaskRow

# Results are long, and only a few figures of each are kept: this many are in memory at once.
_TASKS_AT_ONCE = 200
_ERROR_CHARACTERS = 500
_DELETED = "The task was deleted."


class Members:
    """Fills in what changes about the members of groups."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def fill(self, groups: Sequence[Any]) -> None:
        """Set state, progress, error and result of every member, and the state of every group."""
        named = [member for group in groups for member in group.members if member.task]
        for start in range(0, len(named), _TASKS_AT_ONCE):
            part = named[start : start + _TASKS_AT_ONCE]
            uids = {member.task: UUID(member.task.partition("/")[2]) for member in part}
            rows = await self._ledger.store.load(uids.values())
            for member in part:
                self._fill(member, rows.get(uids[member.task]))
        for group in groups:
            group.state = state_of(group.members)

    def _fill(self, member: TaskGroupMember, row: TaskRow | None) -> None:
        if row is None:
            member.task, member.error = "", _DELETED
            return
        task: Any = self._ledger.codec.message(row)
        member.state, member.progress = task.status.state, task.status.progress
        if task.status.HasField("failure"):
            member.error = task.status.failure.message[:_ERROR_CHARACTERS]
        if task.HasField("result"):
            member.figures.update(self._ledger.codec.kind.figures(task.result))
            member.result_version = getattr(task.result, "model_version", "")


def state_of(members: Sequence[TaskGroupMember]) -> TaskGroupState.ValueType:
    """Return the state of all members together; one whose task was deleted or never created did not succeed."""
    states = [member.state for member in members]
    if any(state in OPEN for state in states):
        return TASK_GROUP_STATE_IN_PROGRESS
    if all(state == TASK_STATE_SUCCEEDED for state in states):
        return TASK_GROUP_STATE_ALL_SUCCEEDED
    return TASK_GROUP_STATE_PARTLY_SUCCEEDED if TASK_STATE_SUCCEEDED in states else TASK_GROUP_STATE_NONE_SUCCEEDED
