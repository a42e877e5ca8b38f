"""What the tables say of a queue to those who wait in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from lathe.type.v1.task_pb2 import TaskState

from services.database.pool import Database
from services.platform.quotas import Table
from services.tasks.state.queue import running

_ENTRY = "SELECT rank, owner, id, sent IS NOT NULL FROM queue WHERE task = $1"
_SENT_BEFORE = (
    "SELECT count(*) FROM queue WHERE device = $1 AND sent IS NOT NULL AND id <= $2 AND (rank < 0) = ($3 < 0)"
)
_TURN = "SELECT count(*) FROM queue WHERE device = $1 AND sent IS NULL AND rank = $2 AND owner = $3 AND id <= $4"
_WAITING = "SELECT rank, owner, count(*) FROM queue WHERE device = $1 AND sent IS NULL GROUP BY rank, owner"
# Among the newest successes of all devices: a device that had none of them for so long has no figures worth telling.
_ENDED = """
SELECT live FROM (SELECT device, live, outcome IS NOT NULL AS done FROM tasks WHERE state = 3
    ORDER BY create_time DESC, uid DESC LIMIT 500) AS newest
WHERE device = $1 AND done LIMIT 20
"""
_COUNTS = """
SELECT w.device, w.waiting, (SELECT t.create_time FROM queue q JOIN tasks t ON t.uid = q.task WHERE q.id = w.oldest)
FROM (SELECT device, count(*) AS waiting, min(id) AS oldest FROM queue GROUP BY device) AS w
"""
_RUNNING = "SELECT device, count(*) FROM tasks WHERE state IN (2, 5) GROUP BY device"
# By the tasks and not by the queue: a task that waits for a second attempt is no longer there. One that follows another
# task needs no worker.
_WANTED = "SELECT device, count(*) FROM tasks WHERE state IN (1, 2, 5) AND leader IS NULL GROUP BY device"
# The last are those that have not been sent, perhaps because of the quota of their project.
_WANTED_BY_PROJECT = """
SELECT t.device, t.project, count(*), count(*) FILTER (WHERE t.state = 1 AND q.task IS NOT NULL AND q.sent IS NULL)
FROM tasks t LEFT JOIN queue q ON q.task = t.uid
WHERE t.state IN (1, 2, 5) AND t.leader IS NULL GROUP BY t.device, t.project
"""
_BY_PROJECT = "SELECT project, state, count(*) FROM tasks WHERE project = ANY ($1) GROUP BY project, state"
_LOADS = """
SELECT w.device, w.owner, w.waiting, 0, t.create_time
FROM (SELECT device, owner, count(*) AS waiting, min(id) AS oldest FROM queue GROUP BY device, owner) AS w
JOIN queue q ON q.id = w.oldest JOIN tasks t ON t.uid = q.task
UNION ALL
SELECT device, owner, 0, count(*), NULL FROM tasks WHERE state IN (2, 5) GROUP BY device, owner
"""


class Entry(NamedTuple):
    """The row of a task in the queue."""

    rank: int
    owner: str
    number: int
    sent: bool


class Count(NamedTuple):
    """How many tasks wait for a device, and when the oldest of them was created."""

    device: str
    waiting: int
    oldest: datetime | None


class Load(NamedTuple):
    """How many tasks wait for a worker, how many run, and when the oldest of those that wait was created."""

    waiting: int = 0
    running: int = 0
    oldest: datetime | None = None

    def plus(self, other: Load) -> Load:
        """Return both together."""
        oldest = min((each for each in (self.oldest, other.oldest) if each is not None), default=None)
        return Load(self.waiting + other.waiting, self.running + other.running, oldest)

    def age(self, now: datetime) -> float:
        """Return for how many seconds the oldest has waited; 0 if none waits."""
        return max((now - self.oldest).total_seconds(), 0.0) if self.oldest is not None else 0.0


class Standing:
    """Asks the tables of one kind, in the service's own PostgreSQL schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def entry(self, task: UUID) -> Entry | None:
        """Return the row of a task; None if it does not wait, or waits for a second attempt."""
        record = await self._database.fetchrow(_ENTRY, task)
        return None if record is None else Entry(*record)

    async def turn(self, device: str, entry: Entry) -> int:
        """Return the place of a task among those that are sent, or among those of its owner and rank; from 1."""
        if entry.sent:
            return int(await self._database.fetchval(_SENT_BEFORE, device, entry.number, entry.rank))
        return int(await self._database.fetchval(_TURN, device, entry.rank, entry.owner, entry.number))

    async def waiting(self, device: str) -> dict[int, dict[str, int]]:
        """Return how many tasks of each owner wait to be sent, by rank."""
        found: dict[int, dict[str, int]] = {}
        for rank, owner, count in await self._database.fetch(_WAITING, device):
            found.setdefault(rank, {})[owner] = count
        return found

    async def ended(self, device: str) -> Sequence[bytes]:
        """Return the changing halves of the newest tasks for a device whose work was done, not shared."""
        return [record[0] for record in await self._database.fetch(_ENDED, device)]

    async def counts(self) -> Sequence[Count]:
        """Return how many tasks wait for each device."""
        return [Count(*record) for record in await self._database.fetch(_COUNTS)]

    async def running(self) -> dict[str, int]:
        """Return how many tasks run for each device."""
        return {record[0]: record[1] for record in await self._database.fetch(_RUNNING)}

    async def wanted(self, limits: Table) -> dict[str, int]:
        """Return how many tasks for each device need a worker, or have one.

        What cannot be sent now, because its project has as many running tasks as it may, needs none: it counts as far
        as there is room for it.
        """
        if not limits.any_running:
            return {record[0]: record[1] for record in await self._database.fetch(_WANTED)}
        busy, found = await self.dispatched(), dict[str, int]()
        for device, project, count, unsent in await self._database.fetch(_WANTED_BY_PROJECT):
            limit = limits.of(project).running_tasks
            room = max(limit - busy.get(project, 0), 0) if limit else unsent
            if wanted := count - unsent + min(unsent, room):
                found[device] = found.get(device, 0) + wanted
        return found

    async def of_projects(self, projects: Sequence[str]) -> dict[str, dict[TaskState.ValueType, int]]:
        """Return how many tasks projects have, by project and state; one without tasks is left out."""
        found: dict[str, dict[TaskState.ValueType, int]] = {}
        for project, state, count in await self._database.fetch(_BY_PROJECT, projects):
            found.setdefault(project, {})[state] = count
        return found

    async def dispatched(self) -> Mapping[str, int]:
        """Return how many tasks of each project are with workers or on the way to them."""
        async with self._database.connection() as connection:
            return await running(connection)

    async def loads(self) -> dict[tuple[str, str], Load]:
        """Return how much waits and runs, by device and owner, with one query."""
        found: dict[tuple[str, str], Load] = {}
        for device, owner, *load in await self._database.fetch(_LOADS):
            found[device, owner] = found.get((device, owner), Load()).plus(Load(*load))
        return found
