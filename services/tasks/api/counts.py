"""How many tasks of one kind projects have, in each state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lathe.registry.v1.storage_service_pb2 import TaskUsage
from lathe.type.v1.task_pb2 import TaskState

from services.platform.words import word
from services.tasks.state.standing import Standing


class Counts:
    """Counts the tasks of one kind."""

    def __init__(self, kind: str, standing: Standing) -> None:
        self._kind = kind
        self._standing = standing

    async def __call__(self, projects: Sequence[str]) -> Mapping[str, TaskUsage]:
        """Return the tasks of projects, counted; a project without any is left out."""
        states, dispatched = await self._standing.of_projects(projects), await self._standing.dispatched()
        return {
            project: TaskUsage(
                kind=self._kind,
                dispatched=dispatched.get(project, 0),
                **{word(TaskState, state).lower(): count for state, count in counted.items()},
            )
            for project, counted in states.items()
        }
