"""One collection: marks what is referred to, then looks through the bucket and removes what has long been unmarked.

    a file is removed if   no service refers to it in this collection
                           and none did in an earlier one that is at least a grace ago, nor in any between
                           and nobody has stored, found or sent it again for a grace (`services/storage/claims.py`)
                           and no work that goes on in a service was begun before the last two

So a reference may be on its way for a grace: in the memory of a process, in an event, from a row that is deleted to one
that is written. Collections hold a lease, and whoever has lost it decides nothing any more.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from lathe.registry.v1.storage_service_pb2 import GarbageCollection, StoredBytes
from lathe.type.v1.failure_pb2 import TASK_STAGE_EXECUTING, TASK_STAGE_FETCHING_INPUTS
from prometheus_client import Counter, Gauge

from engines.failures import EngineFailure, FailureReason
from services.database.leases import Lease, Leases
from services.database.pool import Connection, Database
from services.operations.runner import Standing
from services.registry.garbage.gathering import References
from services.storage.keys import OWNERS
from services.storage.removal import Removal, Stored

__all__ = ["Collector"]

COLLECTIONS = Counter("lathe_gc_collections", "Collections of what nobody refers to, by outcome.", ["outcome"])
for _outcome in ("ok", "failed", "cancelled"):
    # From the start, at 0: an alert cannot tell the first one from a series that it did not know.
    COLLECTIONS.labels(_outcome)
REMOVED_FILES = Counter("lathe_gc_removed_files", "Files that nobody referred to, removed from the object store.")
REMOVED_BYTES = Counter("lathe_gc_removed_bytes", "Bytes that nobody referred to, removed from the object store.")
STORED_BYTES = Gauge(
    "lathe_gc_stored_bytes", "Bytes in the object store at the last collection of this process.", ["state"]
)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MARKED_PART = 0.4
_MARK = "INSERT INTO marks (sha256, project) SELECT unnest($1::bytea[]), $2 ON CONFLICT DO NOTHING"
_MARKED = "SELECT sha256, project FROM marks WHERE sha256 = ANY ($1)"
_PARDON = "DELETE FROM condemned WHERE sha256 = ANY ($1)"
_CONDEMN = """
    INSERT INTO condemned (sha256, since, seen) SELECT unnest($1::text[]), now(), $2
    ON CONFLICT (sha256) DO UPDATE SET seen = excluded.seen
"""
_RIPE = "SELECT sha256 FROM condemned WHERE sha256 = ANY ($1) AND since < $2"
# Nobody takes from a table that the bytes are there once they may go.
_FORGET = (
    "DELETE FROM blobs WHERE sha256 = ANY ($1)",
    "DELETE FROM artifact_uses WHERE sha256 = ANY ($1)",
    "DELETE FROM dataset_archives WHERE sha256 = ANY ($1)",
)


@dataclass
class _Count:
    """Files and their bytes."""

    files: int = 0
    bytes: int = 0

    def add(self, found: Sequence[Stored]) -> None:
        self.files += len(found)
        self.bytes += sum(each.size for each in found)

    @property
    def message(self) -> StoredBytes:
        return StoredBytes(files=self.files, bytes=self.bytes)


@dataclass
class _Run:
    """What a collection has decided, and counts.

    Attributes:
        name: Of the collection.
        dry: It changes nothing.
        before: What was condemned before this may go.
        least_age: How long it must have been there, unclaimed.
    """

    name: str
    dry: bool
    before: datetime
    least_age: timedelta
    projects: dict[str, _Count] = field(default_factory=dict)
    referred: _Count = field(default_factory=_Count)
    waiting: _Count = field(default_factory=_Count)
    removed: _Count = field(default_factory=_Count)


class Collector:
    """Does collections, one at a time on all replicas."""

    noun = "garbage collection"
    at_once = 1

    def __init__(self, database: Database, references: References, removal: Removal, grace: timedelta) -> None:
        """Remove what has been unreferred to for `grace`."""
        self._database = database
        self._references = references
        self._removal = removal
        self._grace = grace
        self._leases = Leases(database)

    async def do(self, operation: GarbageCollection, standing: Standing) -> GarbageCollection:
        """Do a collection; what it counts is in the result.

        Raises:
            EngineFailure: INFRASTRUCTURE if a service or the store does not answer, INVALID_SPEC if other installations
                use the bucket, INPUT_UNAVAILABLE if the index of a dataset is lost. Nothing more is removed then.
            LatheError: ABORTED if this process was too slow, and another one took over.
        """
        from minio.error import MinioException
        from urllib3.exceptions import HTTPError

        outcome = "failed"
        try:
            async with self._leases.hold("garbage") as lease:
                run = await self._collect(operation, lease, standing)
            outcome = "ok"
        except (MinioException, HTTPError) as error:
            text = f"The object store did not answer as it should: {error}"
            raise EngineFailure(FailureReason.INFRASTRUCTURE, text, retryable=True) from error
        except asyncio.CancelledError:
            outcome = "cancelled"  # by a user, or as this process ends
            raise
        finally:
            COLLECTIONS.labels(outcome).inc()
        for state, count in (("referred", run.referred), ("waiting", run.waiting)):
            STORED_BYTES.labels(state).set(count.bytes)
        return GarbageCollection(
            referred=run.referred.message, waiting=run.waiting.message, removed=run.removed.message
        )

    async def _collect(self, operation: GarbageCollection, lease: Lease, standing: Standing) -> _Run:
        standing.at(TASK_STAGE_FETCHING_INPUTS, 0.0)
        await self._require_alone()
        now: datetime = await self._database.fetchval("SELECT now()")
        await self._mark(lease)
        horizon = min(now, self._references.horizon or now)
        run = _Run(operation.name, operation.dry_run, horizon - self._grace, now - horizon + self._grace)
        standing.at(TASK_STAGE_EXECUTING, _MARKED_PART)
        pages = self._removal.pages()
        while page := await asyncio.to_thread(next, pages, None):
            if named := [each for each in page if _SHA256.fullmatch(each.sha256)]:
                await self._settle(named, run, lease)
                # Digests come in their order, and are spread evenly.
                standing.progress = _MARKED_PART + (1 - _MARKED_PART) * int(named[-1].sha256[:4], 16) / 0x10000
        if not run.dry:
            await asyncio.to_thread(self._removal.forget_claims, run.least_age)
        async with self._database.transaction() as connection:
            await lease.confirm(connection)
            await connection.execute("TRUNCATE marks")
            await connection.execute("DELETE FROM project_usages")
            used = [(project, each.files, each.bytes, now) for project, each in run.projects.items() if project]
            await connection.executemany("INSERT INTO project_usages VALUES ($1, $2, $3, $4)", used)
            if not run.dry:
                # What is not in the bucket any more is condemned anew if it comes back.
                await connection.execute("DELETE FROM condemned WHERE seen <> $1", run.name)
        return run

    async def _require_alone(self) -> None:
        """Refuse a bucket in which others store what only their own tables refer to."""
        owner = str(await self._database.fetchval("SELECT uid FROM installation"))
        found = await asyncio.to_thread(self._removal.join, owner)
        if strangers := sorted(set(found) - {owner}):
            objects = ", ".join(f"{OWNERS}{each}" for each in strangers[:5])
            raise EngineFailure(
                FailureReason.INVALID_SPEC,
                f"The bucket is used by {len(strangers) + 1} installations of Lathe, so nothing may be removed: what "
                "one does not refer to may be another's.",
                suggested_fix="Give each installation a bucket of its own (LATHE_S3_BUCKET). If the others are gone "
                f"for good, remove {objects} from the bucket.",
            )

    async def _mark(self, lease: Lease) -> None:
        async with self._database.transaction() as connection:
            await lease.confirm(connection)
            await connection.execute("TRUNCATE marks")
        async for project, part in self._references.gather():
            await self._database.execute(_MARK, sorted(part), project)

    async def _settle(self, page: Sequence[Stored], run: _Run, lease: Lease) -> None:
        """Count a page of stored bytes, and remove those whose time has come."""
        async with self._database.transaction() as connection:
            # If the lease is lost, another collection may have emptied the marks.
            await lease.confirm(connection)
            rows = await connection.fetch(_MARKED, [bytes.fromhex(each.sha256) for each in page])
            projects: dict[str, list[str]] = {}
            for row in rows:
                projects.setdefault(row["sha256"].hex(), []).append(row["project"])
            marked = projects.keys()
            ripe = await self._judge(
                connection, [each.sha256 for each in page if each.sha256 not in marked], marked, run
            )
        removed = ripe
        if ripe and not run.dry:
            removed = await asyncio.to_thread(self._removal.remove, ripe, run.least_age)
            await self._database.execute(_PARDON, sorted(removed))
        for each in page:
            for project in projects.get(each.sha256, ()):
                run.projects.setdefault(project, _Count()).add([each])
        run.referred.add([each for each in page if each.sha256 in marked])
        run.waiting.add([each for each in page if each.sha256 not in marked and each.sha256 not in removed])
        gone = [each for each in page if each.sha256 in removed]
        run.removed.add(gone)
        if not run.dry:
            REMOVED_FILES.inc(len(gone))
            REMOVED_BYTES.inc(sum(each.size for each in gone))

    async def _judge(
        self, connection: Connection, unmarked: Sequence[str], marked: Collection[str], run: _Run
    ) -> set[str]:
        """Note which bytes nobody refers to; return those of which that has been so for long enough."""
        if not run.dry:
            await connection.execute(_PARDON, sorted(marked))
            await connection.execute(_CONDEMN, sorted(unmarked), run.name)
        ripe = {row["sha256"] for row in await connection.fetch(_RIPE, unmarked, run.before)}
        if not run.dry:
            for statement in _FORGET:
                await connection.execute(statement, sorted(ripe))
        return ripe
