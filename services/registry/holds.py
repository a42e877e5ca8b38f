"""Holds on versions: while one lasts, nobody deletes the version."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from services.database.pool import Connection, Database
from services.platform.errors import not_found
from services.registry.kinds import VERSIONS
from services.resources.scope import kept

_HOLD = """
INSERT INTO holds (version, holder, expire_time) VALUES ($1, $2, now() + $3::interval)
ON CONFLICT (version, holder) DO UPDATE SET expire_time = excluded.expire_time
"""
_RENEW = "UPDATE holds SET expire_time = greatest(expire_time, now() + $2::interval) WHERE holder = ANY ($1)"


async def hold(database: Database, version: str, holder: str, lasts: timedelta) -> None:
    """Keep a version from being deleted until `unhold`, or until the time is over; LatheError NOT_FOUND if absent."""
    async with database.transaction() as connection:
        if not await kept(connection, "model_versions", [version]):
            raise not_found(VERSIONS.noun, version)
        await connection.execute(_HOLD, version, holder, lasts)


async def renew(database: Database, holders: Sequence[str], lasts: timedelta) -> None:
    """Let what these hold be held for so long from now; what lasts longer is left as it is."""
    await database.execute(_RENEW, holders, lasts)


async def unhold(connection: Connection | Database, version: str, holder: str) -> None:
    """End a hold, if there is one."""
    await connection.execute("DELETE FROM holds WHERE version = $1 AND holder = $2", version, holder)


async def forget_expired(database: Database) -> None:
    """Remove holds that have ended by themselves."""
    await database.execute("DELETE FROM holds WHERE expire_time < now()")
