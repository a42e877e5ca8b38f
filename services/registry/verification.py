"""Verification of large uploads, as work in the background: it reads what came in parts, and stores it."""

from __future__ import annotations

from datetime import timedelta

from lathe.registry.v1.artifact_service_pb2 import UPLOAD_STATE_FINALIZED, UPLOAD_STATE_OPEN
from lathe.type.v1.digest_pb2 import Digest
from lathe.type.v1.failure_pb2 import TASK_STAGE_EXECUTING

from engines.failures import EngineFailure, FailureReason
from services.database.pool import Connection, Database, Record
from services.operations.backlog import Backlog, Claim
from services.operations.runner import LostError, Runner, Standing
from services.platform.errors import LatheError, is_transient
from services.platform.failures import failure_message
from services.platform.settings import Settings
from services.registry.blobs import Blobs, add_uses
from services.storage import LARGE_AT_ONCE, Uploads

_FINALIZE = "UPDATE uploads SET state = $2, sha256 = $3, verified_bytes = size_bytes, failure = '' WHERE uid = $1"
_FAIL = "UPDATE uploads SET state = $2, failure = $3 WHERE uid = $1"
_LONGEST = 4000


def verifications(database: Database, uploads: Uploads, blobs: Blobs, settings: Settings) -> Runner:
    """Return what verifies uploads in this process."""
    backlog = Backlog(database, "upload_checks", "upload", timedelta(seconds=settings.ack_wait_seconds))
    return Runner(backlog, _Verification(database, backlog, uploads, blobs), settings.max_attempts)


async def finalize(connection: Connection, blobs: Blobs, upload: Record, digest: Digest) -> None:
    """Finalize an upload whose bytes are stored: its project may read them."""
    await blobs.record([digest], connection)
    await add_uses(connection, "projects", upload["project"], upload["project"], [digest])
    await connection.execute(_FINALIZE, upload["uid"], UPLOAD_STATE_FINALIZED, digest.sha256)


class _Verification:
    noun = "upload verification"
    at_once = LARGE_AT_ONCE

    def __init__(self, database: Database, backlog: Backlog, uploads: Uploads, blobs: Blobs) -> None:
        self._database = database
        self._backlog = backlog
        self._uploads = uploads
        self._blobs = blobs

    async def run(self, claim: Claim, standing: Standing) -> None:
        """Read an upload, and finalize it if its bytes are what they should be."""
        row = await self._database.fetchrow("SELECT * FROM uploads WHERE uid = $1", claim.key)
        if row is None:
            raise LostError
        digest = Digest(sha256=row["wanted_sha256"], size_bytes=row["size_bytes"])
        standing.at(TASK_STAGE_EXECUTING, 0.0)

        def count(more: int) -> None:
            standing.progress += more / digest.size_bytes

        try:
            await self._uploads.verify_and_commit(str(claim.key), digest.size_bytes, digest, count, unsent=False)
        except LatheError as error:
            if is_transient(error.code):
                raise
            reason = FailureReason.INPUT_UNAVAILABLE
            raise EngineFailure(reason, error.message, evidence=error.reason) from error
        async with self._database.transaction() as connection:
            if not await self._backlog.end(connection, claim):
                raise LostError
            await finalize(connection, self._blobs, row, digest)
        await self._uploads.abort(str(claim.key))

    async def fail(self, claim: Claim, failure: EngineFailure, standing: Standing) -> None:
        """Open the upload again, with the reason."""
        told = failure_message(failure, standing.stage, _LONGEST, {})
        async with self._database.transaction() as connection:
            if not await self._backlog.end(connection, claim):
                raise LostError
            await connection.execute(_FAIL, claim.key, UPLOAD_STATE_OPEN, told.SerializeToString())
