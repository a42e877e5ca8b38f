"""The table of stored bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence

from lathe.registry.v1.artifact_service_pb2 import Artifact
from lathe.type.v1.digest_pb2 import Digest, File

from services.database.pool import Connection, Database
from services.platform.access import readable
from services.platform.errors import failed_precondition, not_found
from services.storage import ContentStore

_CHECKS_AT_ONCE = 16
_SEEN = "SELECT DISTINCT sha256 FROM artifact_uses WHERE sha256 = ANY ($1) AND readers && $2"
_GET = "SELECT size_bytes, create_time FROM blobs WHERE sha256 = $1"
# What may be removed soon is asked of the store, which keeps it for those who ask.
_KNOWN = """
    SELECT sha256, size_bytes FROM blobs WHERE sha256 = ANY ($1)
    AND NOT EXISTS (SELECT FROM condemned WHERE condemned.sha256 = blobs.sha256)
"""


class Blobs:
    """The table of stored bytes, and the store behind it: workers store bytes without telling the registry."""

    def __init__(self, database: Database, content: ContentStore) -> None:
        self._database = database
        self._content = content

    async def record(self, digests: Iterable[Digest], connection: Connection | None = None) -> None:
        """Add stored bytes to the table; known ones keep the time at which they were first stored."""
        unique = {digest.sha256: digest.size_bytes for digest in digests}
        await (connection or self._database).execute(
            "INSERT INTO blobs (sha256, size_bytes, create_time) "
            "SELECT sha256, size_bytes, now() FROM unnest($1::text[], $2::bigint[]) AS new (sha256, size_bytes) "
            "ORDER BY sha256 ON CONFLICT DO NOTHING",
            list(unique.keys()),
            list(unique.values()),
        )

    async def get(self, sha256: str) -> Artifact:
        """Return what is known of stored bytes; LatheError NOT_FOUND if there are none that the caller may read."""
        if not await self.seen([sha256]):
            raise not_found("artifact", f"artifacts/{sha256}")
        row = await self._database.fetchrow(_GET, sha256)
        if row is None and (digest := await self._content.find(sha256)):
            await self.record([digest])
            row = await self._database.fetchrow(_GET, sha256)
        if row is None:
            raise not_found("artifact", f"artifacts/{sha256}")
        artifact = Artifact(name=f"artifacts/{sha256}", digest=Digest(sha256=sha256, size_bytes=row["size_bytes"]))
        artifact.create_time.FromDatetime(row["create_time"])
        return artifact

    async def known(self, digests: Sequence[Digest]) -> set[tuple[str, int]]:
        """Return SHA-256 and size of the digests that the table has in exactly their size; they stay for a grace."""
        rows = await self._database.fetch(_KNOWN, [digest.sha256 for digest in digests])
        return {(row["sha256"], row["size_bytes"]) for row in rows}

    async def seen(self, digests: Collection[str]) -> set[str]:
        """Return those of some SHA-256 that the caller may read if they are stored: to know one gives nothing."""
        readers = readable()
        if readers is None:
            return set(digests)
        return {row["sha256"] for row in await self._database.fetch(_SEEN, list(digests), readers)}

    async def keep(self, digest: Digest) -> None:
        """If these bytes are stored, and nobody refers to them, let them stay for a grace from now."""
        if await self._database.fetchval("SELECT true FROM condemned WHERE sha256 = $1", digest.sha256):
            await self._content.exists(digest)

    async def missing(self, files: Sequence[File]) -> list[File]:
        """Return those of the files whose bytes, in exactly their size, are not stored, or not for this caller."""
        seen = await self.seen({file.digest.sha256 for file in files})
        hidden = [file for file in files if file.digest.sha256 not in seen]
        files = [file for file in files if file.digest.sha256 in seen]
        known = await self.known([file.digest for file in files])
        unknown = [file for file in files if (file.digest.sha256, file.digest.size_bytes) not in known]
        slots = asyncio.Semaphore(_CHECKS_AT_ONCE)

        async def stored(file: File) -> bool:
            async with slots:
                return await self._content.exists(file.digest)

        there = await asyncio.gather(*(stored(file) for file in unknown))
        await self.record(file.digest for file, found in zip(unknown, there, strict=True) if found)
        return hidden + [file for file, found in zip(unknown, there, strict=True) if not found]

    async def require(self, files: Sequence[File]) -> None:
        """Refuse files that are not stored: LatheError FAILED_PRECONDITION, reason BLOB_NOT_FOUND, naming them."""
        if missing := await self.missing(files):
            named = ", ".join(f"'{file.path}' ({file.digest.sha256[:12]}…)" for file in missing[:5])
            raise failed_precondition(
                "BLOB_NOT_FOUND",
                f"{len(missing)} of the files are not stored in the size given: {named}. "
                "Upload them with CreateUpload and FinalizeUpload first.",
                subject=missing[0].path,
            )


async def add_uses(connection: Connection, table: str, parent: str, resource: str, digests: Iterable[Digest]) -> None:
    """Let those who may read a resource read stored bytes.

    Args:
        connection: The transaction that creates the resource.
        table: Where the row of `parent` is.
        parent: The resource itself, or what it belongs to: it has the readers.
        resource: What has the bytes.
        digests: Of the bytes.
    """
    query = f"""
        INSERT INTO artifact_uses (sha256, resource, parent, readers)
        SELECT sha256, $2, $3, readers FROM {table}, unnest($1::text[]) AS used (sha256) WHERE name = $3
        ON CONFLICT DO NOTHING
    """  # noqa: S608 - our own table
    await connection.execute(query, sorted({digest.sha256 for digest in digests}), resource, parent)


async def drop_uses(connection: Connection, resources: Collection[str]) -> None:
    """Forget what deleted resources had."""
    await connection.execute("DELETE FROM artifact_uses WHERE resource = ANY ($1)", list(resources))
