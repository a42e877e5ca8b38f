"""What connections of services to the database do."""

from __future__ import annotations

import asyncio

from services.database.pool import Database
from tests.eventually import eventually

_IN_TRANSACTION = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = $1 AND xact_start < clock_timestamp() - interval '0.3 seconds'
"""


async def none_is_held(database: Database, service: str) -> None:
    """Wait until no connection of a service has been in a transaction for a while.

    One that does a step of its own is for longer if the machine is busy; one that is held until what the test holds up
    has ended would be for good.
    """
    await asyncio.sleep(0.4)
    await eventually(lambda: database.fetchval(_IN_TRANSACTION, f"lathe-{service}"), lambda held: not held)
