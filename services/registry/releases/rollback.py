"""Reads the history of a channel: a release, the one that a request made, the one that a roll back restores."""

from __future__ import annotations

from uuid import UUID

from lathe.registry.v1.release_service_pb2 import RELEASE_KIND_ROLLBACK, Channel, Release

from services.database.pool import Connection, Database
from services.platform.errors import failed_precondition, not_found


async def restored(connection: Connection, channel: Channel, named: str) -> Release:
    """Return the release to go back to: the named one, else the one before the release that is being left.

    Raises:
        LatheError: NOT_FOUND for a named one that does not exist; FAILED_PRECONDITION, reason NO_EARLIER_RELEASE.
    """
    if named:
        return await find_release(connection, named)
    release = await _origin(connection, channel.current_release)
    while release is not None:
        # Skip what a roll back left: go on from the release before the one that it restored.
        release = await _origin(connection, release.previous_release)
        if release is not None and release.model_version != channel.current_version:
            return release
    raise failed_precondition(
        "NO_EARLIER_RELEASE",
        f"No other version has served in '{channel.name}', so there is nothing to go back to. "
        "To return to a release that was rolled back, name it in 'release'.",
        subject=channel.name,
    )


async def _origin(connection: Connection, name: str) -> Release | None:
    """Return the promotion that a release stands for: itself, or what its roll back restored; None for no name."""
    release = await find_release(connection, name) if name else None
    while release is not None and release.kind == RELEASE_KIND_ROLLBACK:
        release = await find_release(connection, release.restored_release)
    return release


async def find_release(connection: Connection, name: str) -> Release:
    """Return a release; LatheError NOT_FOUND if there is none."""
    body = None
    if "\0" not in name:
        body = await connection.fetchval("SELECT body FROM releases WHERE name = $1", name)
    if body is None:
        raise not_found("release", name)
    return Release.FromString(body)


async def release_made(reader: Connection | Database, uid: UUID) -> Release:
    """Return the release that a request made.

    Raises:
        LatheError: FAILED_PRECONDITION, reason ALREADY_DELETED, if its channel is gone.
    """
    body = await reader.fetchval("SELECT body FROM releases WHERE uid = $1", uid)
    if body is None:
        raise failed_precondition(
            "ALREADY_DELETED",
            "A request with this request_id made a release, whose channel has been deleted since. "
            "Use a new request_id to make another one.",
        )
    return Release.FromString(body)
