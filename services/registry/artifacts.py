"""Uploads and stored bytes: the handlers of ArtifactService."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

from lathe.registry.v1.artifact_service_pb2 import (
    UPLOAD_STATE_ABORTED,
    UPLOAD_STATE_FINALIZED,
    UPLOAD_STATE_OPEN,
    UPLOAD_STATE_VERIFYING,
    Artifact,
    CreateUploadRequest,
    Download,
    ListUploadsRequest,
    Upload,
)
from lathe.type.v1.digest_pb2 import Digest
from uuid_utils.compat import uuid7

from services.audit.entries import note
from services.database.leases import Lease, Leases
from services.database.pool import Connection, Database, Record
from services.operations.runner import Runner
from services.operations.watching import changes
from services.platform.access import DEFAULT_PROJECT, Role, has_role, require_change, require_project
from services.platform.errors import failed_precondition, not_found
from services.platform.identity import current_user
from services.platform.quotas import CachedQuotas
from services.registry.allowance import Allowance
from services.registry.blobs import Blobs
from services.registry.upload_rows import UPLOADS, find_upload, message_of, require_same
from services.registry.verification import finalize
from services.resources.idempotency import claim_first, find_first, made_once
from services.resources.listing import Entries, ListQuery, list_page
from services.storage import SMALL_BYTES, ContentStore, StagedPart, Uploads, spans

UPLOAD_LIFETIME = timedelta(days=7)
DOWNLOAD_LIFETIME = timedelta(hours=6)
_EXPIRED = "SELECT uid FROM uploads WHERE state = $1 AND expire_time < now() ORDER BY expire_time LIMIT 100"
_VERIFY = "UPDATE uploads SET state = $2, wanted_sha256 = $3, failure = '' WHERE uid = $1"
_KEEP_PROJECT = "SELECT 1 FROM projects WHERE name = $1 FOR KEY SHARE"
_INSERT = """
INSERT INTO uploads (uid, display_name, size_bytes, state, owner, create_time, expire_time, sha256, project)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING *
"""


class Artifacts:
    """Opens, resumes, finalizes and cancels uploads; finds and hands out stored bytes."""

    def __init__(
        self,
        database: Database,
        content: ContentStore,
        uploads: Uploads,
        blobs: Blobs,
        verifications: Runner,
        *,
        quotas: CachedQuotas | None = None,
    ) -> None:
        self._database = database
        self._quotas = quotas or CachedQuotas()
        self._allowance = Allowance()
        self._verifications = verifications
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
        project = request.project or DEFAULT_PROJECT
        require_project(project)
        # Before the transaction: asking may take another connection, and all may be in transactions that wait for it.
        limits = await self._quotas.of(project)
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
                if not await connection.fetchval(_KEEP_PROJECT, project):
                    raise not_found("project", project)
                await self._allowance.require(connection, project, request.size_bytes, limits)
                row = await connection.fetchrow(_INSERT, uid, *values, request.sha256, project)
                await note(connection, None, message_of(row, []), project)
        if earlier is not None:
            return await self.get(f"uploads/{earlier}")
        return await self._shown(row, await self._uploads.open(str(uid), request.size_bytes))

    async def get(self, name: str) -> Upload:
        """Return an upload, with fresh URLs for the parts that have not arrived; LatheError NOT_FOUND."""
        async with self._database.connection() as connection:
            row = await find_upload(connection, name)
        if row["state"] == UPLOAD_STATE_OPEN:
            return await self._shown(row, await self._uploads.parts(str(row["uid"]), row["size_bytes"]))
        received = row["state"] in {UPLOAD_STATE_FINALIZED, UPLOAD_STATE_VERIFYING}
        return await self._shown(row, [StagedPart(span, received, "") for span in spans(row["size_bytes"])])

    async def page(self, request: ListUploadsRequest, entries: Entries[Upload]) -> str:
        """Make one page, without parts, and return the token of the next."""
        return await list_page(
            self._database,
            UPLOADS,
            ListQuery.from_request(request),
            entries,
            lambda upload, row: upload.CopyFrom(message_of(row, [])),
        )

    async def watch(self, name: str) -> AsyncIterator[Upload]:
        """Yield an upload whenever it changes, and end when it is not VERIFYING; LatheError NOT_FOUND."""
        async for upload in changes(lambda: self.get(name), lambda upload: upload.state == UPLOAD_STATE_VERIFYING):
            yield upload

    async def finalize(self, name: str, digest: Digest) -> Upload:
        """Verify what has arrived and store it under its digest; a large file that must be read is read afterwards.

        Raises:
            LatheError: NOT_FOUND; INVALID_ARGUMENT, reason DIGEST_MISMATCH or SIZE_MISMATCH, after which the upload
                stays open; FAILED_PRECONDITION, reason UPLOAD_INCOMPLETE or UPLOAD_ABORTED.
        """
        # Whatever is read within the call is small.
        with self._uploads.precedence.first():
            return await self._finalize(name, digest)

    async def _finalize(self, name: str, digest: Digest) -> Upload:
        async with self._alone(name) as (lease, row):
            require_change("upload", name, row["project"], [row["project"]])
            if row["state"] == UPLOAD_STATE_ABORTED:
                raise failed_precondition(
                    "UPLOAD_ABORTED", f"'{name}' was cancelled or has expired. Open another upload.", subject=name
                )
            if row["state"] in {UPLOAD_STATE_FINALIZED, UPLOAD_STATE_VERIFYING}:
                require_same(row, digest)
            else:
                await self._settle(lease, row, digest)
        return await self.get(name)

    async def _settle(self, lease: Lease, row: Record, digest: Digest) -> None:
        upload_id, size = str(row["uid"]), row["size_bytes"]
        unsent = bool(await self._blobs.seen([digest.sha256]))
        later = size > SMALL_BYTES and await self._uploads.must_store(upload_id, size, digest, unsent=unsent)
        if not later:
            await self._uploads.verify_and_commit(upload_id, size, digest, unsent=unsent)
        async with self._database.transaction() as connection:
            await lease.confirm(connection)
            if later:
                await connection.execute(_VERIFY, row["uid"], UPLOAD_STATE_VERIFYING, digest.sha256)
                await self._verifications.backlog.begin(connection, row["uid"])
            else:
                await finalize(connection, self._blobs, row, digest)
            await self._note_change(connection, row)
        if later:
            self._verifications.wake()
        else:
            await self._uploads.abort(upload_id)

    async def cancel(self, name: str) -> Upload:
        """Give up an upload, remove what had arrived, and return the upload.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION, reason UPLOAD_FINALIZED, if it is stored already.
        """
        async with self._alone(name) as (lease, row):
            require_change("upload", name, row["project"], [row["project"]])
            if row["state"] == UPLOAD_STATE_FINALIZED:
                raise failed_precondition(
                    "UPLOAD_FINALIZED", f"'{name}' is finalized: its bytes are stored and stay.", subject=name
                )
            await self._give_up(lease, row)
        return await self.get(name)

    async def artifact(self, sha256: str) -> Artifact:
        """Return what is known of stored bytes; LatheError NOT_FOUND if there are none."""
        return await self._blobs.get(sha256)

    async def download(self, digest: Digest, file_name: str) -> Download:
        """Return a URL from which stored bytes, which the caller may read, can be read."""
        expire_time = datetime.now(UTC) + DOWNLOAD_LIFETIME
        url = await self._content.presigned_get(digest, file_name, DOWNLOAD_LIFETIME)
        download = Download(url=url, digest=digest)
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
            "DELETE FROM uploads WHERE state = ANY ($1) AND expire_time < now() - $2::interval",
            [UPLOAD_STATE_FINALIZED, UPLOAD_STATE_ABORTED],
            UPLOAD_LIFETIME,
        )
        await self._uploads.sweep(UPLOAD_LIFETIME + timedelta(days=1))

    @asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[tuple[Lease, Record]]:
        """Keep others, on any replica, from finalizing or cancelling an upload meanwhile; yields its current row."""
        async with self._database.connection() as connection:
            upload = f"uploads/{(await find_upload(connection, name))['uid']}"
        async with self._leases.hold(upload) as lease:
            async with self._database.connection() as connection:
                row = await find_upload(connection, upload)
            yield lease, row

    async def _give_up(self, lease: Lease, row: Record) -> None:
        async with self._database.transaction() as connection:
            await lease.confirm(connection)
            await connection.execute("UPDATE uploads SET state = $2 WHERE uid = $1", row["uid"], UPLOAD_STATE_ABORTED)
            await self._verifications.backlog.drop(connection, row["uid"])
            await self._note_change(connection, row)
        self._verifications.stop(row["uid"])
        await self._uploads.abort(str(row["uid"]))

    async def _note_change(self, connection: Connection, before: Record) -> None:
        after = await find_upload(connection, f"uploads/{before['uid']}")
        await note(connection, message_of(before, []), message_of(after, []), before["project"])

    async def _shown(self, row: Record, parts: list[StagedPart]) -> Upload:
        """Return an upload as a message, with a request that sends the file at once if there can be one.

        Who may only look at it gets nothing with which bytes could be sent.
        """
        upload = message_of(row, parts)
        if not has_role(row["project"], Role.EDITOR):
            for part in upload.parts:
                part.ClearField("url")
            return upload
        if row["state"] == UPLOAD_STATE_VERIFYING:
            done = await self._verifications.backlog.progress([row["uid"]])
            upload.verified_bytes = round((done.get(row["uid"]) or 0) * row["size_bytes"])
        if row["state"] == UPLOAD_STATE_OPEN and row["sha256"]:
            announced = Digest(sha256=row["sha256"], size_bytes=row["size_bytes"])
            known = bool(await self._blobs.seen([row["sha256"]]))
            if known:
                # Who finds the name taken sends nothing: what may be removed soon has to stay.
                await self._blobs.keep(announced)
            direct = await self._uploads.direct(str(row["uid"]), announced, known=known)
            if direct is not None:
                upload.direct.url = direct.url
                upload.direct.headers.update(direct.headers)
                upload.direct.expire_time.FromDatetime(direct.expire_time)
        return upload
