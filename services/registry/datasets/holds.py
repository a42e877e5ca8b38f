"""Tasks that use a dataset, and so keep it from being deleted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from google.protobuf.duration_pb2 import Duration
from lathe.registry.v1.dataset_service_pb2 import Dataset

from services.database.pool import Connection, Database
from services.platform.durations import whole_seconds
from services.platform.errors import failed_precondition, not_found
from services.registry.kinds import DATASETS
from services.resources.scope import kept, told

DEFAULT_HOLD_SECONDS = 24 * 3600
_NAMED_AT_MOST = 5
_HOLD = """
INSERT INTO dataset_holds (dataset, holder, expire_time) VALUES ($1, $2, now() + $3::interval)
ON CONFLICT (dataset, holder) DO UPDATE SET expire_time = excluded.expire_time
"""
_RENEW = "UPDATE dataset_holds SET expire_time = greatest(expire_time, now() + $2::interval) WHERE holder = ANY ($1)"
_HOLDERS = """
SELECT holder, readers FROM dataset_holds JOIN datasets ON name = dataset
WHERE dataset = $1 AND expire_time > now() ORDER BY holder LIMIT $2
"""


class Holds:
    """Begins, ends and heeds holds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def hold(self, name: str, holder: str, ttl: Duration) -> None:
        """Keep a dataset from being deleted, for a day if `ttl` is not set; LatheError NOT_FOUND if there is none."""
        async with self._database.transaction() as connection:
            if not await kept(connection, "datasets", [name]):
                raise not_found(DATASETS.noun, name)
            await connection.execute(_HOLD, name, holder, timedelta(seconds=whole_seconds(ttl) or DEFAULT_HOLD_SECONDS))

    async def renew(self, holders: Sequence[str], ttl: Duration) -> None:
        """Let what these hold be held for so long from now; what lasts longer is left as it is."""
        await self._database.execute(_RENEW, holders, timedelta(seconds=whole_seconds(ttl)))

    async def unhold(self, name: str, holder: str) -> None:
        """End a hold, if there is one."""
        await self._database.execute("DELETE FROM dataset_holds WHERE dataset = $1 AND holder = $2", name, holder)

    async def forget_expired(self) -> None:
        """Remove holds that have ended by themselves."""
        await self._database.execute("DELETE FROM dataset_holds WHERE expire_time < now()")


async def refuse_held(connection: Connection, dataset: Dataset) -> None:
    """Refuse to delete a dataset that a task uses: LatheError FAILED_PRECONDITION, reason IN_USE, naming the tasks."""
    rows = await connection.fetch(_HOLDERS, dataset.name, _NAMED_AT_MOST)
    if rows:
        holders = ", ".join(dict.fromkeys(told(row["holder"], row["readers"]) for row in rows))
        raise failed_precondition(
            "IN_USE",
            f"'{dataset.name}' cannot be deleted while a task uses it: {holders}. Wait for the task or cancel it.",
            subject=dataset.name,
        )
