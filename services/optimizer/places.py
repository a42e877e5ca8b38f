"""Which task may write which folder of the bucket.

A task in flight has its place to itself; when it ends, the place is free again, unless its model is saved there. Who
saves first keeps the place for as long as the saved version exists: nothing is ever laid over, into or around it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from services.database.locks import take_turn
from services.database.pool import Database
from services.platform import access
from services.platform.errors import LatheError, failed_precondition, invalid_argument
from services.platform.identity import acting_as, current_user

# A folder overlaps itself, the folders that contain it, and the folders in it.
_OVERLAPS = "(place = $2 OR starts_with(place, $2 || '/') OR starts_with($2, place || '/'))"
# A place is taken before its task is written, and kept before a version is registered: if a crash came in between
# and the task does not exist, nobody would ever release it.
_IS_THERE = """
(version <> '' OR take_time > now() - interval '5 minutes'
 OR EXISTS (SELECT FROM tasks WHERE uid = split_part(task, '/', 2)::uuid))
"""
_OTHERS = f"""
SELECT task, place, saved, version,
    coalesce((SELECT project FROM tasks WHERE uid = split_part(task, '/', 2)::uuid), '') AS project
FROM output_locations
WHERE task <> $1 AND {_OVERLAPS} AND {_IS_THERE} AND (saved OR NOT $3)
ORDER BY saved DESC, place LIMIT 1
"""  # noqa: S608 - our own words
_OF_VERSION = f"SELECT place FROM output_locations WHERE version = $1 AND {_OVERLAPS} LIMIT 1"  # noqa: S608
_WRITE = """
INSERT INTO output_locations (place, task, saved) VALUES ($1, $2, $3)
ON CONFLICT (place) DO UPDATE
SET task = excluded.task, saved = excluded.saved, version = '', take_time = excluded.take_time
"""
_KEPT = "SELECT place FROM output_locations WHERE task = $1 AND saved"
_FORGET = "DELETE FROM output_locations WHERE place = $1 AND version = $2"


class Places:
    """The table of places.

    Args:
        database: Where it is.
        exists: Says whether a version exists. The place of a version that was deleted can be taken again.
    """

    def __init__(self, database: Database, exists: Callable[[str], Awaitable[bool]]) -> None:
        self._database = database
        self._exists = exists

    async def refuse_overlap(self, place: str, source: str) -> None:
        """Raise LatheError INVALID_ARGUMENT if the files of the version that a task reads are in its place."""
        found = await self._database.fetchval(_OF_VERSION, source, place)
        if found is not None:
            raise invalid_argument(
                "task.spec.output_location",
                f"{place} overlaps {found}, which holds the files of the source '{source}'; choose another folder",
            )

    async def take(self, task: str, place: str) -> None:
        """Give a place to a task that is about to be created; idempotent.

        Raises:
            LatheError: FAILED_PRECONDITION, reason OUTPUT_LOCATION_TAKEN, naming the task that has it.
        """
        await self._give(task, place, saved=False)

    async def keep(self, task: str, place: str) -> None:
        """Give a place to a task for good, because its model is about to be saved there. Raises as `take` does."""
        await self._give(task, place, saved=True)

    async def kept(self, task: str) -> str:
        """Return the place that a task keeps; empty if nobody has begun to save it."""
        return str(await self._database.fetchval(_KEPT, task) or "")

    async def registered(self, task: str, version: str) -> None:
        """Note which version's files are in the place of a task."""
        await self._database.execute("UPDATE output_locations SET version = $2 WHERE task = $1", task, version)

    async def release(self, task: str) -> None:
        """Let go of what `take` gave; what is kept stays."""
        await self._database.execute("DELETE FROM output_locations WHERE task = $1 AND NOT saved", task)

    async def give_up(self, task: str) -> None:
        """Give up what `keep` gave if no version was registered."""
        await self._database.execute("DELETE FROM output_locations WHERE task = $1 AND version = ''", task)

    async def _give(self, task: str, place: str, *, saved: bool) -> None:
        while True:
            async with self._database.transaction() as connection:
                await take_turn(connection, "output_locations")
                found = await connection.fetchrow(_OTHERS, task, place, saved)
                if found is None:
                    await connection.execute(_WRITE, place, task, saved)
                    return
            # The registry is asked when the lock is free again: others need not wait for its answer. It is asked as a
            # service, because a version that the caller may not see keeps its place all the same.
            with acting_as(current_user()):
                there = not found["version"] or await self._exists(found["version"])
            if there:
                raise _taken(place, found)
            await self._database.execute(_FORGET, found["place"], found["version"])


def _taken(place: str, found: Mapping[str, Any]) -> LatheError:
    if not access.is_visible([found["project"]]):
        return failed_precondition(
            "OUTPUT_LOCATION_TAKEN",
            f"The result would be stored in {place}, which overlaps a folder that a task of another project has. Name "
            "another folder in output_location.",
        )
    standing, advice = ("has saved its model to", "") if found["saved"] else ("may write", ", or wait for its end")
    return failed_precondition(
        "OUTPUT_LOCATION_TAKEN",
        f"The result would be stored in {place}, and '{found['task']}' {standing} {found['place']}. Name another "
        f"folder in output_location{advice}.",
        found["task"],
    )
