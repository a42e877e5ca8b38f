"""Which task may write which folder of the bucket.

A task in flight has its place to itself; when it ends, the place is free again, unless its model is saved there. Who
saves first keeps the place: nothing is ever laid over, into or around what another task saved.
"""

from __future__ import annotations

from services.common.database import Connection, Database
from services.common.errors import failed_precondition, invalid_argument

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('output_locations', 0))"
# A folder overlaps itself, what it lies in, and what lies in it.
_OVERLAPS = "(place = $2 OR starts_with(place, $2 || '/') OR starts_with($2, place || '/'))"
# A place is taken before its task is written: where a crash came between them, nobody would ever let go of it.
_IS_THERE = """
(saved OR take_time > now() - interval '5 minutes'
 OR EXISTS (SELECT FROM tasks WHERE uid = split_part(task, '/', 2)::uuid))
"""
_OTHERS = f"""
SELECT task, place, saved FROM output_locations WHERE task <> $1 AND {_OVERLAPS} AND {_IS_THERE}
ORDER BY saved DESC, place LIMIT 1
"""  # noqa: S608 - our own words
_OF_VERSION = f"SELECT place FROM output_locations WHERE version = $1 AND {_OVERLAPS} LIMIT 1"  # noqa: S608
_WRITE = """
INSERT INTO output_locations (place, task, saved) VALUES ($1, $2, $3)
ON CONFLICT (place) DO UPDATE
SET task = excluded.task, saved = excluded.saved, version = '', take_time = excluded.take_time
"""


class Places:
    """The table of places."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def refuse_overlap(self, place: str, source: str) -> None:
        """Raise LatheError INVALID_ARGUMENT where the files of the version that a task reads lie in its place."""
        found = await self._database.fetchval(_OF_VERSION, source, place)
        if found is not None:
            raise invalid_argument(
                "task.spec.output_location",
                f"{place} overlaps {found}, where the files of the source '{source}' lie; choose another folder",
            )

    async def take(self, task: str, place: str) -> None:
        """Give a place to a task that is about to be created; idempotent.

        Raises:
            LatheError: FAILED_PRECONDITION, reason OUTPUT_LOCATION_TAKEN, naming the task that has it.
        """
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK)
            await _require_free(connection, task, place, saved_only=False)
            await connection.execute(_WRITE, place, task, False)

    async def keep(self, task: str, place: str) -> None:
        """Give a place to a task for good, because its model is about to be saved there. Raises as `take` does."""
        async with self._database.transaction() as connection:
            await connection.execute(_LOCK)
            await _require_free(connection, task, place, saved_only=True)
            await connection.execute(_WRITE, place, task, True)

    async def registered(self, task: str, version: str) -> None:
        """Note which version's files lie in the place of a task."""
        await self._database.execute("UPDATE output_locations SET version = $2 WHERE task = $1", task, version)

    async def release(self, task: str) -> None:
        """Let go of what `take` gave; what is kept stays."""
        await self._database.execute("DELETE FROM output_locations WHERE task = $1 AND NOT saved", task)

    async def give_up(self, task: str) -> None:
        """Let go of what `keep` gave, where no version was registered."""
        await self._database.execute("DELETE FROM output_locations WHERE task = $1 AND version = ''", task)


async def _require_free(connection: Connection, task: str, place: str, *, saved_only: bool) -> None:
    found = await connection.fetchrow(_OTHERS, task, place)
    if found is None or (saved_only and not found["saved"]):
        return
    standing, advice = ("has saved its model to", "") if found["saved"] else ("may write", ", or wait for its end")
    raise failed_precondition(
        "OUTPUT_LOCATION_TAKEN",
        f"The result would lie in {place}, and '{found['task']}' {standing} {found['place']}. Name another folder in "
        f"output_location{advice}.",
        found["task"],
    )
