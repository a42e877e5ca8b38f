"""Which imports go on, and who works on each: rows with a lease, so that another process takes over from a dead one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

from lathe.type.v1.digest_pb2 import FileList

from services.database.pool import Connection, Database

# Those that waited longest come first; two processes that look at once find two different ones.
_CLAIM = """
UPDATE dataset_imports SET holder = $1, attempts = attempts + 1, lease_time = now() + $2::interval
WHERE dataset = (
    SELECT dataset FROM dataset_imports WHERE lease_time <= now() ORDER BY lease_time LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING dataset, attempts, accept_mismatches, indexes
"""
_BEGIN = """
INSERT INTO dataset_imports (dataset, accept_mismatches, indexes, lease_time, create_time)
VALUES ($1, $2, $3, now(), now())
"""
_RENEW = """
UPDATE dataset_imports SET lease_time = now() + $3::interval, progress = $4 WHERE dataset = $1 AND holder = $2
RETURNING true
"""
_GIVE_BACK = """
UPDATE dataset_imports SET holder = NULL, lease_time = now() + $3::interval, attempts = attempts - $4::int
WHERE dataset = $1 AND holder = $2
"""
_END = "DELETE FROM dataset_imports WHERE dataset = $1 AND holder = $2 RETURNING true"


@dataclass(frozen=True)
class Claim:
    """An import that this process works on.

    Attributes:
        dataset: Name of the dataset.
        holder: Made for this claim; the next holder has another.
        attempt: Number of this attempt, from 1.
        accept_mismatches: Whether the import goes on if the class mapping does not fit.
        indexes: The indexes of a derived dataset's sources; empty for an import of files.
    """

    dataset: str
    holder: UUID
    attempt: int
    accept_mismatches: bool
    indexes: FileList


class Leases:
    """The table of imports that go on."""

    def __init__(self, database: Database, lease: timedelta) -> None:
        """Keep imports in `database`; one that is not renewed for the time of `lease` is free again."""
        self._database = database
        self._lease = lease
        self.seconds = lease.total_seconds()

    async def begin(
        self, connection: Connection, dataset: str, *, accept_mismatches: bool = False, indexes: FileList | None = None
    ) -> None:
        """Add the import of a dataset, inside the transaction that makes it one that is importing."""
        await connection.execute(_BEGIN, dataset, accept_mismatches, (indexes or FileList()).SerializeToString())

    async def claim(self) -> Claim | None:
        """Take an import that nobody works on, or whose lease has passed; None if there is none."""
        holder = uuid4()
        row = await self._database.fetchrow(_CLAIM, holder, self._lease)
        if row is None:
            return None
        indexes = FileList.FromString(row["indexes"])
        return Claim(row["dataset"], holder, row["attempts"], row["accept_mismatches"], indexes)

    async def renew(self, claim: Claim, progress: float) -> bool:
        """Renew the lease and write the progress; False if another process took over, or the dataset is gone."""
        return await self._database.fetchval(_RENEW, claim.dataset, claim.holder, self._lease, progress) is not None

    async def give_back(self, claim: Claim, after: timedelta = timedelta(), *, counted: bool = True) -> None:
        """Let others take an import after some time; an attempt that is not counted never was."""
        await self._database.execute(_GIVE_BACK, claim.dataset, claim.holder, after, 0 if counted else 1)

    async def end(self, connection: Connection, claim: Claim) -> bool:
        """Remove an import that ended, inside the transaction that says so; False if another process took over."""
        return await connection.fetchval(_END, claim.dataset, claim.holder) is not None

    async def progress(self, datasets: Iterable[str]) -> dict[str, float]:
        """Return how far imports are, from 0 to 1, by dataset."""
        rows = await self._database.fetch(
            "SELECT dataset, progress FROM dataset_imports WHERE dataset = ANY($1)", list(datasets)
        )
        return {row["dataset"]: row["progress"] for row in rows}
