"""The tasks that wait for a worker: a row each, from their creation until a worker has claimed them.

`sent` says that the message is in NATS, or about to be. Replicas choose under a lock, so that each sends others.
What was handed on to workers on the device has the rank HANDED_ON: the outbox sends it at once, to their own queue.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from services.database.arrays import of_any_length
from services.database.pool import Connection, Database
from services.tasks.state.turns import Waiting

_UIDS = of_any_length("$1::uuid[]")

_DEVICES = """
WITH RECURSIVE found (device) AS (
    (SELECT device FROM queue WHERE sent IS NULL ORDER BY device LIMIT 1)
    UNION ALL
    SELECT (SELECT q.device FROM queue q WHERE q.sent IS NULL AND q.device > found.device ORDER BY q.device LIMIT 1)
    FROM found WHERE found.device IS NOT NULL
)
SELECT device FROM found WHERE device IS NOT NULL
"""

_LOOK = f"""
SELECT device, EXISTS (SELECT FROM queue q WHERE q.device = d.device AND q.sent IS NULL),
    (SELECT count(*) FROM queue q WHERE q.device = d.device AND q.sent IS NOT NULL AND q.rank >= 0),
    (SELECT count(*) FROM tasks t WHERE t.device = d.device AND t.state IN (2, 5))
FROM unnest({of_any_length("$1::text[]")}) AS d (device)
"""  # noqa: S608 - our own words

# Goes from one owner's tasks to the next owner's by the index, however many there are of each.
_FIRST = """
WITH RECURSIVE heads (rank, owner) AS (
    (SELECT rank, owner FROM queue WHERE device = $1 AND sent IS NULL ORDER BY rank, owner LIMIT 1)
    UNION ALL
    SELECT following.rank, following.owner FROM heads CROSS JOIN LATERAL (
        SELECT q.rank, q.owner FROM queue q
        WHERE q.device = $1 AND q.sent IS NULL AND (q.rank, q.owner) > (heads.rank, heads.owner)
        ORDER BY q.rank, q.owner LIMIT 1
    ) AS following
)
SELECT first.* FROM heads CROSS JOIN LATERAL (
    {next} q.device = $1 AND q.sent IS NULL AND q.rank = heads.rank AND q.owner = heads.owner ORDER BY q.id LIMIT $2
) AS first
"""
_FIRST_OF_ALL = _FIRST.format(next="SELECT q.rank, q.owner, q.id, q.task FROM queue q WHERE")
_FIRST_PERMITTED = _FIRST.format(
    next="SELECT q.rank, q.owner, q.id, q.task, t.project FROM queue q JOIN tasks t ON t.uid = q.task "
    "WHERE t.project <> ALL ($3::text[]) AND"
)

# A task is in one of them: a row of the queue goes when a worker claims the task.
_RUNNING = """
SELECT project, count(*) FROM (
    SELECT project FROM tasks WHERE state IN (2, 5)
    UNION ALL SELECT t.project FROM queue q JOIN tasks t ON t.uid = q.task WHERE q.sent IS NOT NULL AND t.state = 1
) AS busy GROUP BY project
"""

_HELD = """
SELECT owner, sum(held)::bigint FROM (
    SELECT owner, count(*) AS held FROM queue WHERE device = $1 AND sent IS NOT NULL AND rank >= 0 GROUP BY owner
    UNION ALL
    SELECT owner, count(*) FROM tasks WHERE device = $1 AND state IN (2, 5) GROUP BY owner
) AS both_of_them GROUP BY owner
"""

_TAKE = f"""
WITH picked AS (SELECT task FROM queue WHERE task = ANY ({_UIDS}) AND sent IS NULL FOR UPDATE SKIP LOCKED),
gone AS (
    DELETE FROM queue q USING picked
    WHERE q.task = picked.task AND NOT EXISTS (SELECT FROM tasks t WHERE t.uid = q.task AND t.state = 1)
)
UPDATE queue q SET sent = now() FROM picked, tasks t
WHERE q.task = picked.task AND t.uid = q.task AND t.state = 1
RETURNING q.task, q.device, q.msg_id, coalesce(q.payload, t.assignment)
"""  # noqa: S608 - our own words

_UNSENT = f"SELECT task FROM queue WHERE task = ANY ({_UIDS}) AND (sent IS NULL OR sent > now() - $2::interval)"  # noqa: S608
_PUT_BACK = f"UPDATE queue SET sent = NULL WHERE task = ANY ({_UIDS})"  # noqa: S608

_FORGET = """
DELETE FROM queue q WHERE q.sent IS NOT NULL AND NOT EXISTS (SELECT FROM tasks t WHERE t.uid = q.task AND t.state = 1)
"""


HANDED_ON = -1
"""Rank of a task that a worker elsewhere has begun."""


class Look(NamedTuple):
    """What the tables say of a device: whether tasks wait to be sent, how many are on the way, and how many run."""

    device: str
    backlog: bool
    sent: int
    running: int


class Dispatch(NamedTuple):
    """The message that sends a task to the workers. Without a payload, it is the task's assignment.

    One that is `handed_on` needs no dispatcher: the outbox sends it.
    """

    task: UUID
    device: str
    msg_id: str
    payload: bytes | None = None
    handed_on: bool = False


class TaskQueue:
    """The queue of one kind, in the service's own PostgreSQL schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def look(self, devices: Collection[str], connection: Connection | None = None) -> list[Look]:
        """Return what the tables say of devices."""
        records = await (connection or self._database).fetch(_LOOK, list(devices))
        return [Look(*record) for record in records]

    async def waiting_devices(self) -> list[str]:
        """Return the devices for which tasks wait to be sent."""
        return [record[0] for record in await self._database.fetch(_DEVICES)]

    async def waiting(self) -> int:
        """Return how many tasks wait to be sent."""
        return int(await self._database.fetchval("SELECT count(*) FROM queue WHERE sent IS NULL"))

    async def unsent(self, uids: Sequence[UUID], seconds: float) -> set[UUID]:
        """Return which of these tasks wait to be sent, or were sent in the last seconds."""
        return {record[0] for record in await self._database.fetch(_UNSENT, list(uids), timedelta(seconds=seconds))}

    async def put_back(self, uids: Sequence[UUID]) -> None:
        """Let tasks wait that could not be sent."""
        await self._database.execute(_PUT_BACK, list(uids))

    async def forget_ended(self) -> None:
        """Remove what an older release, which does not know this table, left of tasks that wait no more."""
        await self._database.execute(_FORGET)


async def lock(connection: Connection, kind: str, device: str) -> bool:
    """Take the right to choose for a device until the transaction ends; False if another replica has it."""
    key = zlib.crc32(f"{kind} {device}".encode())
    return bool(await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", key))


async def take_turns(connection: Connection, kind: str) -> None:
    """Wait until nobody else chooses tasks of a kind for any device, until the transaction ends."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", zlib.crc32(f"{kind} of all devices".encode()))


async def first(connection: Connection, device: str, count: int) -> list[Waiting]:
    """Return the oldest waiting tasks of each owner and rank, at most `count` of each."""
    return [Waiting(*record) for record in await connection.fetch(_FIRST_OF_ALL, device, count)]


async def first_permitted(connection: Connection, device: str, count: int, full: Sequence[str]) -> list[Waiting]:
    """Return the same with the projects of the tasks, without those of the projects that are `full`."""
    found = [Waiting(*record) for record in await connection.fetch(_FIRST_PERMITTED, device, count, list(full))]
    return sorted(found, key=lambda each: (each.rank, each.number))


async def running(connection: Connection) -> Mapping[str, int]:
    """Return how many tasks of each project are with the workers or on the way to them."""
    return {record[0]: record[1] for record in await connection.fetch(_RUNNING)}


async def held(connection: Connection, device: str) -> Mapping[str, int]:
    """Return how many tasks of each owner are with the workers or on the way to them."""
    return {record[0]: record[1] for record in await connection.fetch(_HELD, device)}


async def take(connection: Connection, uids: Sequence[UUID]) -> list[Dispatch]:
    """Mark tasks as sent, and return their messages in the order of `uids`; those that wait no more are left out."""
    found = {record[0]: Dispatch(*record) for record in await connection.fetch(_TAKE, list(uids))}
    return [found[uid] for uid in uids if uid in found]
