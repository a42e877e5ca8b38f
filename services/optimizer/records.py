"""Records of searches: what was measured of a source on a device, so that the next search need not measure it again."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from lathe.type.v1.digest_pb2 import Digest

from services.database.pool import Database

_ADD = """
INSERT INTO records (source, device, task, sha256, size_bytes, project) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (source, device, task) DO NOTHING
"""
_WRITERS = """
SELECT DISTINCT ON (sha256) sha256, task FROM records WHERE sha256 = ANY($1) AND project = $2
ORDER BY sha256, create_time
"""
_NEWEST = """
SELECT sha256, size_bytes, task FROM records WHERE source = $1 AND device = $2 AND project = $3
ORDER BY create_time DESC LIMIT 1
"""


class Record(NamedTuple):
    """A stored record, and the task that wrote it."""

    digest: Digest
    task: str


class Records:
    """The table of records, one per task. Only tasks of the same project read them: they name each other."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def newest(self, source: str, device: str, project: str) -> Record | None:
        """Return the newest record of a source (the digest of its files) on a device."""
        row = await self._database.fetchrow(_NEWEST, source, device, project)
        return None if row is None else Record(Digest(sha256=row["sha256"], size_bytes=row["size_bytes"]), row["task"])

    async def writers(self, digests: Collection[str], project: str) -> dict[str, str]:
        """Return the task that wrote each record, by the sha256 of the record."""
        rows = await self._database.fetch(_WRITERS, list(digests), project)
        return {row["sha256"]: row["task"] for row in rows}

    async def add(self, source: str, device: str, record: Record, project: str) -> None:
        """Make a record the newest; a task's second one is the same."""
        digest = record.digest
        await self._database.execute(_ADD, source, device, record.task, digest.sha256, digest.size_bytes, project)
