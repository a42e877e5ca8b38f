"""Numbers of releases: a channel that is created again goes on where the deleted one of its name ended.

So the name of a release is never given to another one, and Triton, which keeps what it loaded by number, never finds
other files under a number that it knows.
"""

from __future__ import annotations

from lathe.registry.v1.release_service_pb2 import Channel

from services.database.pool import Connection
from services.registry import naming

# `0` follows `/`: everything between them begins with the channel's name and `/releases/`.
_RETIRED = "SELECT name FROM retired_names WHERE name > $1 || '/releases/' AND name < $1 || '/releases0'"


async def next_number(connection: Connection, channel: Channel) -> int:
    """Return the number of the channel's next release."""
    if channel.current_release:
        return naming.release_number(channel.current_release) + 1
    retired = await connection.fetch(_RETIRED, channel.name)
    return max((naming.release_number(row["name"]) for row in retired), default=0) + 1


async def retire_numbers(connection: Connection, channel: Channel) -> None:
    """Remember, in the transaction that deletes a channel, how far its numbers went."""
    if channel.current_release:
        await connection.execute("INSERT INTO retired_names (name) VALUES ($1)", channel.current_release)
