"""Rows of uploads: found, listed, and shown as messages."""

from __future__ import annotations

from uuid import UUID

from lathe.registry.v1.artifact_service_pb2 import (
    UPLOAD_STATE_FINALIZED,
    UPLOAD_STATE_VERIFYING,
    Upload,
    UploadPart,
    UploadState,
)
from lathe.type.v1.digest_pb2 import Digest
from lathe.type.v1.failure_pb2 import Failure

from services.database.pool import Connection, Record
from services.platform.access import is_visible
from services.platform.errors import invalid_argument, not_found
from services.resources.filters.fields import NUMBER, TEXT, TIME, word_field
from services.resources.listing import Listing
from services.storage import StagedPart

# `sha256` of an open upload is what was announced, if anything; that of a finalized one is what its bytes have.
_GET = "SELECT * FROM uploads WHERE uid = $1"
UPLOADS = Listing(
    "uploads",
    columns="*",
    stored=("display_name",),
    visible="project = ANY ({})",
    fields={
        "project": TEXT,
        "display_name": TEXT,
        "owner": TEXT,
        "create_time": TIME,
        "expire_time": TIME,
        "size_bytes": NUMBER,
        "state": word_field(UploadState),
        "sha256": TEXT,
    },
)
"""What can be listed of uploads."""


async def find_upload(connection: Connection, name: str) -> Record:
    """Return the row of an upload; LatheError NOT_FOUND."""
    try:
        uid = UUID(name.removeprefix("uploads/"))
    except ValueError:
        raise not_found("upload", name) from None
    row = await connection.fetchrow(_GET, uid)
    if row is None or not is_visible([row["project"]]):
        raise not_found("upload", name)
    return row


def require_same(row: Record, digest: Digest) -> None:
    """Refuse a digest that the upload does not have, or is not verified against: LatheError DIGEST_MISMATCH."""
    finalized = row["state"] == UPLOAD_STATE_FINALIZED
    expected = row["sha256"] if finalized else row["wanted_sha256"]
    if (expected, row["size_bytes"]) != (digest.sha256, digest.size_bytes):
        what = "was finalized" if finalized else "is being verified"
        raise invalid_argument(
            "digest",
            f"The upload {what} with the SHA-256 {expected} ({row['size_bytes']} bytes).",
            reason="DIGEST_MISMATCH",
        )


def message_of(row: Record, parts: list[StagedPart]) -> Upload:
    """Return the message of a row."""
    upload = Upload(
        name=f"uploads/{row['uid']}",
        display_name=row["display_name"],
        size_bytes=row["size_bytes"],
        state=row["state"],
        owner=row["owner"],
        project=row["project"],
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
    sha256_of = {UPLOAD_STATE_FINALIZED: row["sha256"], UPLOAD_STATE_VERIFYING: row["wanted_sha256"]}
    if sha256 := sha256_of.get(row["state"]):
        upload.digest.CopyFrom(Digest(sha256=sha256, size_bytes=row["size_bytes"]))
    if row["failure"]:
        upload.failure.CopyFrom(Failure.FromString(row["failure"]))
    upload.create_time.FromDatetime(row["create_time"])
    upload.expire_time.FromDatetime(row["expire_time"])
    return upload
