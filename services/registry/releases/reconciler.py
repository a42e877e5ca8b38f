"""Brings the model repository of a channel in line with the database, whatever was interrupted.

A process that is about to change a repository marks its channel first, and removes the mark when both agree. If it dies
in between, the mark stays, and `heal` finds it: it sweeps the files of a promotion that was not recorded, writes a
configuration that is missing, and removes the folder of a deleted channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog
from lathe.registry.v1.release_service_pb2 import Release

from services.database.leases import Leases
from services.database.pool import Connection, Database
from services.registry.releases.layout import is_config
from services.registry.releases.repository import ModelRepositories

# Folders of older releases are removed: a roll back copies again. These stay for servers that have not looked yet.
KEPT_RELEASES = 5
HEAL_SECONDS = 30.0
_MARK = """
INSERT INTO unsettled_channels (channel, mark) VALUES ($1, gen_random_uuid())
ON CONFLICT (channel) DO UPDATE SET mark = excluded.mark
"""
_GET_MARK = "SELECT mark FROM unsettled_channels WHERE channel = $1"
_UNMARK = "DELETE FROM unsettled_channels WHERE channel = $1 AND mark = $2"
_NEWEST = "SELECT body FROM releases WHERE parent = $1 ORDER BY number DESC LIMIT $2"
_LEFT = "SELECT channel FROM unsettled_channels WHERE create_time < now() - $1::interval ORDER BY create_time LIMIT 100"
_log: Any = structlog.get_logger("lathe.releases")


async def mark_unsettled(connection: Connection | Database, channel: str) -> None:
    """Note that a channel's repository may differ from the database."""
    await connection.execute(_MARK, channel)


def repository_lease(channel: str) -> str:
    """Return the name of the lease for work on a channel's repository, shared by all replicas.

    It is made of the channel's name: a deleted channel has no row, but its folder may still be there.
    """
    return f"repository of {channel}"


class Reconciler:
    """Settles the repositories of channels."""

    def __init__(self, database: Database, repositories: ModelRepositories) -> None:
        self._database = database
        self._repositories = repositories
        # Releases use the same object, so that waiting calls of this process queue up.
        self.leases = Leases(database)

    async def settle(self, channel: str) -> None:
        """Make a channel's repository serve its current release, and remove all files that do not belong to it."""
        async with self.leases.hold(repository_lease(channel)):
            mark = await self._database.fetchval(_GET_MARK, channel)
            rows = await self._database.fetch(_NEWEST, channel, KEPT_RELEASES)
            await self._bring_in_line(channel, [Release.FromString(row["body"]) for row in rows])
            await self._database.execute(_UNMARK, channel, mark)

    async def heal(self) -> None:
        """Settle the channels that interrupted calls have left behind, forever."""
        while True:
            await self.heal_once(timedelta(seconds=HEAL_SECONDS))
            await asyncio.sleep(HEAL_SECONDS)

    async def heal_once(self, older_than: timedelta) -> None:
        """Settle the channels that have been marked for longer than this; one that fails is left for the next time."""
        for row in await self._database.fetch(_LEFT, older_than):
            try:
                await self.settle(row["channel"])
            except Exception as error:  # one channel must not keep the others from being settled
                _log.warning("a model repository could not be settled yet", channel=row["channel"], exc_info=error)

    async def _bring_in_line(self, channel: str, releases: Sequence[Release]) -> None:
        current = releases[0].files if releases else ()
        await self._repositories.copy(channel, current, missing_only=True)
        await self._repositories.switch(channel, current)
        serving = {file.path.split("/", 1)[0] for file in current}
        kept = {file.path for release in releases for file in release.files if not is_config(file.path)}
        # Triton would go on serving a model that the current release does not have, and guess its configuration.
        keep = {path for path in kept if path.split("/", 1)[0] in serving} | {file.path for file in current}
        await self._repositories.sweep(channel, keep)
