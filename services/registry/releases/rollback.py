"""Finds the release that a roll back goes back to."""

from __future__ import annotations

from lathe.registry.v1.release_service_pb2 import RELEASE_KIND_ROLLBACK, Channel, Release

from services.database.pool import Connection
from services.platform.errors import failed_precondition
from services.registry.releases.rows import find_release


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
