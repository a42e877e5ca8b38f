"""The rows of releases: written once, and read by name, by request and in lists."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC
from uuid import UUID

from lathe.registry.v1.release_service_pb2 import Release, ReleaseKind

from services.audit.entries import note
from services.database.pool import Connection, Database, Record
from services.platform.access import Role, has_role, is_visible
from services.platform.errors import failed_precondition, not_found
from services.registry import naming
from services.registry.blobs import add_uses
from services.resources.filters.fields import NUMBER, TEXT, TIME, word_field
from services.resources.listing import Listing

_FIELDS = {
    "name": TEXT,
    "number": NUMBER,
    "model_version": TEXT,
    "kind": word_field(ReleaseKind),
    "owner": TEXT,
    "create_time": TIME,
}
IN_SEEN_CHANNEL = "parent IN (SELECT name FROM channels WHERE readers && {})"
"""What holds for releases and approvals that a caller may see: they are where their channel is."""
_PROJECT = "(SELECT project FROM channels c WHERE c.name = parent) AS project"
LISTING = Listing(
    "releases",
    columns=f"body, {_PROJECT}",
    details=("files",),
    fields=_FIELDS,
    default_order="number desc",
    visible=IN_SEEN_CHANNEL,
)
_GET = "SELECT r.body, c.readers, c.project FROM releases r JOIN channels c ON c.name = r.parent WHERE r.name = $1"
_MADE = "SELECT r.body, c.readers, c.project FROM releases r JOIN channels c ON c.name = r.parent WHERE r.uid = $1"
_EVIDENCE = "SELECT DISTINCT evaluation_task FROM releases WHERE evaluation_task = ANY ($1) AND evaluation_task <> ''"
_OF_EARLIER = "SELECT body FROM releases WHERE evaluation_task IS NULL"
_INSERT = """
INSERT INTO releases (uid, name, parent, number, model_version, kind, owner, create_time, body, evaluation_task)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""


async def insert_release(connection: Connection, release: Release) -> None:
    """Write a release."""
    await connection.execute(
        _INSERT,
        UUID(release.uid),
        release.name,
        naming.channel_of(release.name),
        naming.release_number(release.name),
        release.model_version,
        release.kind,
        release.owner,
        release.create_time.ToDatetime(tzinfo=UTC),
        release.SerializeToString(),
        release.evaluation_task,
    )
    channel, digests = naming.channel_of(release.name), (file.digest for file in release.files)
    await note(connection, None, release, await project_of(connection, channel))
    await add_uses(connection, "channels", channel, release.name, digests)


async def project_of(connection: Connection, channel: str) -> str:
    """Return the project of a channel, and so of its releases and approvals."""
    return str(await connection.fetchval("SELECT project FROM channels WHERE name = $1", channel))


def read_into(release: Release, row: Record) -> None:
    """Read a release as the caller may see it: evaluations and datasets are told to the members of its project."""
    release.MergeFromString(row["body"])
    if not has_role(row["project"], Role.VIEWER):
        release.ClearField("evaluation_task")
        release.ClearField("checks")


def _read(row: Record) -> Release:
    release = Release()
    read_into(release, row)
    return release


async def find_release(connection: Connection | Database, name: str) -> Release:
    """Return a release; LatheError NOT_FOUND if there is none."""
    row = None if "\0" in name else await connection.fetchrow(_GET, name)
    if row is None or not is_visible(row["readers"]):
        raise not_found("release", name)
    return _read(row)


async def release_made(reader: Connection | Database, uid: UUID) -> Release:
    """Return the release that a request made.

    Raises:
        LatheError: FAILED_PRECONDITION, reason ALREADY_DELETED, if its channel is gone, also for this caller.
    """
    row = await reader.fetchrow(_MADE, uid)
    if row is None or not is_visible(row["readers"]):
        raise failed_precondition(
            "ALREADY_DELETED",
            "A request with this request_id made a release, whose channel has been deleted since. "
            "Use a new request_id to make another one.",
        )
    return _read(row)


async def evidence_among(reader: Connection | Database, evaluations: Collection[str]) -> list[str]:
    """Return those of some evaluations that any release names."""
    found = {row["evaluation_task"] for row in await reader.fetch(_EVIDENCE, list(evaluations))}
    # Few, if any: an earlier release of Lathe wrote them while this one ran beside it.
    earlier = {Release.FromString(row["body"]).evaluation_task for row in await reader.fetch(_OF_EARLIER)}
    return sorted(found | earlier.intersection(evaluations))
