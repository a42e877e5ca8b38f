"""How much of its quotas a project has left for an upload."""

from __future__ import annotations

from time import monotonic

from lathe.registry.v1.artifact_service_pb2 import UPLOAD_STATE_OPEN, UPLOAD_STATE_VERIFYING

from services.database.locks import take_turn
from services.database.pool import Connection
from services.platform.quotas import Limits, exceeded

__all__ = ["Allowance"]

KEPT_SECONDS = 10.0
_MOST_KEPT = 10_000
_OPEN = """
SELECT count(*) FILTER (WHERE state = $2) AS open, coalesce(sum(size_bytes), 0)::bigint AS bytes
FROM uploads WHERE project = $1 AND state IN ($2, $3)
"""
# The first reader is the project of the resource; the others are those with which it is shared.
_STORED = """
SELECT coalesce(sum(size_bytes), 0)::bigint FROM blobs
WHERE sha256 IN (SELECT sha256 FROM artifact_uses WHERE readers[1] = $1)
"""


class Allowance:
    """Counts what projects with quotas have: uploads exactly, stored bytes as they were some seconds ago."""

    def __init__(self) -> None:
        self._stored: dict[str, tuple[float, int]] = {}

    async def require(self, connection: Connection, project: str, size: int, limits: Limits) -> None:
        """Refuse an upload that is too much for the limits of its project, in the transaction that opens it.

        Raises:
            LatheError: RESOURCE_EXHAUSTED, reason QUOTA_EXCEEDED.
        """
        if not limits.open_uploads and not limits.stored_bytes:
            return
        # Replicas count one after the other, and each sees what the one before has opened.
        await take_turn(connection, f"uploads of {project}")
        uploads = await connection.fetchrow(_OPEN, project, UPLOAD_STATE_OPEN, UPLOAD_STATE_VERIFYING)
        if limits.open_uploads and uploads["open"] >= limits.open_uploads:
            raise exceeded(project, "open_uploads", "open uploads", limits.open_uploads, uploads["open"])
        if limits.stored_bytes:
            used = uploads["bytes"] + await self._bytes(connection, project)
            if used + size > limits.stored_bytes:
                more = f", without the {size} of this upload"
                raise exceeded(project, "stored_bytes", "stored bytes", limits.stored_bytes, used, more=more)

    async def used(self, connection: Connection, project: str) -> tuple[int, int]:
        """Return how many uploads of a project are open, and how many of its bytes count."""
        uploads = await connection.fetchrow(_OPEN, project, UPLOAD_STATE_OPEN, UPLOAD_STATE_VERIFYING)
        return uploads["open"], uploads["bytes"] + await self._bytes(connection, project)

    async def _bytes(self, connection: Connection, project: str) -> int:
        known = self._stored.get(project)
        if known is None or known[0] < monotonic():
            if len(self._stored) >= _MOST_KEPT:
                self._stored.clear()
            stored = int(await connection.fetchval(_STORED, project))
            known = self._stored[project] = (monotonic() + KEPT_SECONDS, stored)
        return known[1]
