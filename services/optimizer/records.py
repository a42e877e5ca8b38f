"""Records of searches: what was measured of a source on a device, so that the next search need not measure it again."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from lathe.type.v1.digest_pb2 import Digest

from services.common.database import Database

_ADD = """
INSERT INTO records (source, device, task, sha256, size_bytes) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (source, device, task) DO NOTHING
"""
_NEWEST = """
SELECT sha256, size_bytes, task FROM records
WHERE source = $1 AND device = $2 AND ($3::timestamptz IS NULL OR create_time < $3)
ORDER BY create_time DESC LIMIT 1
"""


class Record(NamedTuple):
    """A stored record, and the task that wrote it."""

    digest: Digest
    task: str


class Records:
    """The table of records, one per task."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self, source: str, device: str, *, before: datetime | None = None) -> Record | None:
        """Return the newest record of a source (the digest of its files) on a device; the newest of all without a time.

        Given when a task was created, it is the record that the task's work was given.
        """
        row = await self._database.fetchrow(_NEWEST, source, device, before)
        return None if row is None else Record(Digest(sha256=row["sha256"], size_bytes=row["size_bytes"]), row["task"])

    async def add(self, source: str, device: str, record: Record) -> None:
        """Make a record the newest; a task's second one is the same."""
        digest = record.digest
        await self._database.execute(_ADD, source, device, record.task, digest.sha256, digest.size_bytes)
