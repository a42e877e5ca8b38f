"""Uploads and stored bytes: the handlers of ArtifactService."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

from lathe.registry.v1.artifact_service_pb2 import (
    UPLOAD_STATE_ABORTED,
    UPLOAD_STATE_FINALIZED,
    UPLOAD_STATE_OPEN,
    Artifact,
    CreateUploadRequest,
    Download,
    Upload,
    UploadPart,
)
from lathe.type.v1.digest_pb2 import Digest
from uuid_utils.compat import uuid7

from services.database.leases import Lease, Leases
from services.database.pool import Connection, Database, Record
from services.platform.background import end
from services.platform.errors import failed_precondition, invalid_argument, not_found
from services.platform.identity import current_user
from services.registry.blobs import Blobs
from services.resources.idempotency import claim_first, find_first, made_once
from services.storage import ContentStore, StagedPart, Uploads, spans

UPLOAD_LIFETIME = timedelta(days=7)
DOWNLOAD_LIFETIME = timedelta(hours=6)
# An open upload has the SHA-256 that was announced, if any; a finalized one that of its bytes.
_GET = "SELECT * FROM uploads WHERE uid = $1"
_EXPIRED = "SELECT uid FROM uploads WHERE state = $1 AND expire_time < now() ORDER BY expire_time LIMIT 100"
_FINALIZE = "UPDATE uploads SET state = $2, sha256 = $3, verified_bytes = size_bytes WHERE uid = $1"
_PROGRESS = "UPDATE uploads SET verified_bytes = $2 WHERE uid = $1"
_PROGRESS_SECONDS = 1.0
_INSERT = """
INSERT INTO uploads (uid, display_name, size_bytes, state, owner, create_time, expire_time, sha256)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8) RETURNING *
"""


class Artifacts:
    """Opens, resumes, finalizes and cancels uploads; finds and hands out stored bytes."""

    def __init__(self, database: Database, content: ContentStore, uploads: Uploads, blobs: Blobs) -> None:
        self._database = database
        self._content = content
        self._uploads = uploads
        self._blobs = blobs
        self._leases = Leases(database)

    async def open(self, request: CreateUploadRequest) -> Upload:
        """Open an upload; LatheError INVALID_ARGUMENT for a `request_id` that stood for another request."""
        return await made_once(
            self._leases,
            request,
            find=lambda: self._opened_before(request),
            make=lambda: self._open(request),
        )

    async def _opened_before(self, request: CreateUploadRequest) -> Upload | None:
        uid = await find_first(self._database, request)
        return None if uid is None else await self.get(f"uploads/{uid}")

    async def _open(self, request: CreateUploadRequest) -> Upload:
        uid: UUID = uuid7()
        async with self._database.transaction() as connection:
            earlier = await claim_first(connection, request, uid)
            if earlier is None:
                now = datetime.now(UTC)
                values = (
                    request.display_name,
                    request.size_bytes,
                    UPLOAD_STATE_OPEN,
                    current_user(),
                    now,
                    now + UPLOAD_LIFETIME,
                )
                row = await connection.fetchrow(_INSERT, uid, *values, request.sha256)
        if earlier is not None:
            return await self.get(f"uploads/{earlier}")
        return await self._shown(row, await self._uploads.open(str(uid), request.size_bytes))

    async def get(self, name: str) -> Upload:
        """Return an upload, with fresh URLs for the parts that have not arrived; LatheError NOT_FOUND."""
        async with self._database.connection() as connection:
            row = await _find(connection, name)
        if row["state"] == UPLOAD_STATE_OPEN:
            return await self._shown(row, await self._uploads.parts(str(row["uid"]), row["size_bytes"]))
        received = row["state"] == UPLOAD_STATE_FINALIZED
        return await self._shown(row, [StagedPart(span, received, "") for span in spans(row["size_bytes"])])

    async def finalize(self, name: str, digest: Digest) -> Artifact:
        """Verify what has arrived and store it under its digest.

        Raises:
            LatheError: NOT_FOUND; INVALID_ARGUMENT, reason DIGEST_MISMATCH or SIZE_MISMATCH, after which the upload
                stays open; FAILED_PRECONDITION, reason UPLOAD_INCOMPLETE or UPLOAD_ABORTED.
        """
        async with self._alone(name) as (lease, row):
            if row["state"] == UPLOAD_STATE_ABORTED:
                raise failed_precondition(
                    "UPLOAD_ABORTED", f"'{name}' was cancelled or has expired. Open another upload.", subject=name
                )
            if row["state"] == UPLOAD_STATE_FINALIZED:
                _require_same(row, digest)
            else:
                await self._verify(row, digest)
                async with self._database.transaction() as connection:
                    await lease.confirm(connection)
                    await self._blobs.record([digest], connection)
                    await connection.execute(_FINALIZE, row["uid"], UPLOAD_STATE_FINALIZED, digest.sha256)
        return await self._blobs.get(digest.sha256)

    async def cancel(self, name: str) -> None:
        """Give up an upload and remove what had arrived.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION, reason UPLOAD_FINALIZED, if it is stored already.
        """
        async with self._alone(name) as (lease, row):
            if row["state"] == UPLOAD_STATE_FINALIZED:
                raise failed_precondition(
                    "UPLOAD_FINALIZED", f"'{name}' is finalized: its bytes are stored and stay.", subject=name
                )
            await self._give_up(lease, row)

    async def artifact(self, sha256: str) -> Artifact:
        """Return what is known of stored bytes; LatheError NOT_FOUND if there are none."""
        return await self._blobs.get(sha256)

    async def download(self, sha256: str, file_name: str) -> Download:
        """Return a URL from which stored bytes can be read; LatheError NOT_FOUND if there are none."""
        artifact = await self._blobs.get(sha256)
        expire_time = datetime.now(UTC) + DOWNLOAD_LIFETIME
        url = await self._content.presigned_get(artifact.digest, file_name, DOWNLOAD_LIFETIME)
        download = Download(url=url, digest=artifact.digest)
        download.expire_time.FromDatetime(expire_time)
        return download

    async def expire(self) -> None:
        """Give up open uploads that have expired, forget those that ended long ago, and sweep what they left."""
        while rows := await self._database.fetch(_EXPIRED, UPLOAD_STATE_OPEN):
            for row in rows:
                # If it is being finalized at this moment, this waits, and finds it FINALIZED.
                async with self._alone(f"uploads/{row['uid']}") as (lease, current):
                    if current["state"] == UPLOAD_STATE_OPEN:
                        await self._give_up(lease, current)
        await self._database.execute(
            "DELETE FROM uploads WHERE state <> $1 AND expire_time < now() - $2::interval",
            UPLOAD_STATE_OPEN,
            UPLOAD_LIFETIME,
        )
        await self._uploads.sweep(UPLOAD_LIFETIME + timedelta(days=1))

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[tuple[Lease, Record]]:
        """Keep others, on any replica, from finalizing or cancelling an upload meanwhile; yields its current row."""
        async with self._database.connection() as connection:
            upload = f"uploads/{(await _find(connection, name))['uid']}"
        async with self._leases.hold(upload) as lease:
            async with self._database.connection() as connection:
                row = await _find(connection, upload)
            yield lease, row

    async def _give_up(self, lease: Lease, row: Record) -> None:
        async with self._database.transaction() as connection:
            await lease.confirm(connection)
            await connection.execute("UPDATE uploads SET state = $2 WHERE uid = $1", row["uid"], UPLOAD_STATE_ABORTED)
        await self._uploads.abort(str(row["uid"]))

    async def _verify(self, row: Record, digest: Digest) -> None:
        """Verify and store what has arrived; record the progress from time to time."""
        verified = 0

        def count(more: int) -> None:
            nonlocal verified
            verified += more

        async def report() -> None:
            while True:
                await asyncio.sleep(_PROGRESS_SECONDS)
                await self._database.execute(_PROGRESS, row["uid"], verified)

        reporting = asyncio.create_task(report())
        try:
            await self._uploads.verify_and_commit(str(row["uid"]), row["size_bytes"], digest, count)
        finally:
            await end([reporting])

    async def _shown(self, row: Record, parts: list[StagedPart]) -> Upload:
        """Return an upload as a message, with a request that sends the file at once if there can be one."""
        upload = _message(row, parts)
        if row["state"] == UPLOAD_STATE_OPEN and row["sha256"]:
            direct = await self._uploads.direct(Digest(sha256=row["sha256"], size_bytes=row["size_bytes"]))
            if direct is not None:
                upload.direct.url = direct.url
                upload.direct.headers.update(direct.headers)
                upload.direct.expire_time.FromDatetime(direct.expire_time)
        return upload


async def _find(connection: Connection, name: str) -> Record:
    try:
        uid = UUID(name.removeprefix("uploads/"))
    except ValueError:
        raise not_found("upload", name) from None
    row = await connection.fetchrow(_GET, uid)
    if row is None:
        raise not_found("upload", name)
    return row


def _require_same(row: Record, digest: Digest) -> None:
    if (row["sha256"], row["size_bytes"]) != (digest.sha256, digest.size_bytes):
        raise invalid_argument(
            "digest",
            f"The upload was finalized with the SHA-256 {row['sha256']} ({row['size_bytes']} bytes).",
            reason="DIGEST_MISMATCH",
        )


def _message(row: Record, parts: list[StagedPart]) -> Upload:
    upload = Upload(
        name=f"uploads/{row['uid']}",
        display_name=row["display_name"],
        size_bytes=row["size_bytes"],
        state=row["state"],
        owner=row["owner"],
        verified_bytes=row["verified_bytes"],
        parts=[
            UploadPart(
                number=part.span.number,
                offset=part.span.offset,
                size_bytes=part.span.size,
                url=part.url,
                received=part.received,
            )
            for part in parts
        ],
    )
    upload.create_time.FromDatetime(row["create_time"])
    upload.expire_time.FromDatetime(row["expire_time"])
    return upload
