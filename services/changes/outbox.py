"""The changes that a schema's transactions made and that are not in the stream yet."""

from __future__ import annotations

from dataclasses import dataclass

from lathe.watch.v1.change_pb2 import Change

from services.bus.topology import change_subject
from services.database.pool import Connection

CHANGES_TABLE = """
    CREATE TABLE changes (
        -- Of two changes of one resource, the later has the higher: the second waits for the first to be committed.
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        subject text COLLATE "C" NOT NULL,
        revision bigint NOT NULL,
        -- lathe.watch.v1.Change
        payload bytea NOT NULL
    )
"""
"""The statement that creates the table; part of a migration of each schema whose resources can be watched."""

MAX_CHANGE_BYTES = 256 << 10
"""A larger change is published without its resource."""

_ADD = "INSERT INTO changes (subject, revision, payload) VALUES ($1, $2, $3)"
_TAKE = """
    WITH next AS (SELECT id FROM changes ORDER BY id LIMIT $1 FOR UPDATE)
    DELETE FROM changes c USING next WHERE c.id = next.id RETURNING c.id, c.subject, c.revision, c.payload
"""


@dataclass(frozen=True, slots=True)
class Waiting:
    """A change that is to be published."""

    subject: str
    revision: int
    payload: bytes

    @property
    def msg_id(self) -> str:
        """What makes a repeat recognizable to the stream."""
        return f"{self.subject}:{self.revision}"


def payload_of(change: Change) -> bytes:
    """Return a change as it is stored and published."""
    payload = change.SerializeToString()
    if len(payload) <= MAX_CHANGE_BYTES:
        return payload
    bare = Change(name=change.name, uid=change.uid, type=change.type, revision=change.revision, time=change.time)
    return bare.SerializeToString()


async def add_change(connection: Connection, kind: str, change: Change) -> None:
    """Store a change of a resource, inside the transaction that makes it and after its row is locked."""
    await connection.execute(_ADD, change_subject(kind, change.uid), change.revision, payload_of(change))


async def take_changes(connection: Connection, limit: int) -> list[Waiting]:
    """Remove the oldest changes and return them in order.

    Until the transaction ends, whoever else takes changes waits: what is taken later is published later.
    """
    rows = sorted(await connection.fetch(_TAKE, limit), key=lambda row: row[0])
    return [Waiting(*tuple(row)[1:]) for row in rows]
