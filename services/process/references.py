"""What a service refers to in the object store: every SHA-256 that stands anywhere in its tables.

Nothing is removed from the store that a table may refer to. Digests stand in columns, in messages within columns, and
in texts; tables and fields come and go. So nobody lists the places: whatever looks like a SHA-256, in whatever column,
counts. That keeps too much now and then, and forgets nothing.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Iterator
from datetime import datetime
from typing import Any

from services.database.pool import Connection, Database
from services.platform.settings import DEFAULT_PORTS

__all__ = ["MOST_IN_A_PART", "digests_in", "oldest_work", "others", "references"]

# 32 bytes each: well below the limit of a message.
MOST_IN_A_PART = 50_000
# A row may have 4 MiB.
_ROWS_AT_ONCE = 16
# What was, and need not be any more.
_HISTORY = ("audit",)
_HEX = re.compile(rb"[0-9a-f]{64,}")
_LENGTH = 64
_COLUMNS = """
    SELECT c.relname AS table, a.attname AS column, a.atttypid = 'bytea'::regtype AS binary
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
    AND a.atttypid = ANY (ARRAY['bytea', 'text', 'varchar', 'json', 'jsonb', 'text[]']::regtype[])
    ORDER BY c.relname, a.attnum
"""
# Work that goes on is in tables with a lease (`services.operations.backlog`).
_WORK = """
    SELECT table_name FROM information_schema.columns
    WHERE table_schema = $1 AND column_name IN ('holder', 'lease_time', 'create_time')
    GROUP BY table_name HAVING count(*) = 3
"""


def others(service: str) -> tuple[str, ...]:
    """Return the names of the services apart from one."""
    return tuple(name for name in DEFAULT_PORTS if name != service)


async def references(database: Database, leave_out: Collection[str] = ()) -> AsyncIterator[tuple[str, set[bytes]]]:
    """Yield projects and the digests, 32 bytes each, that the tables of a schema refer to, as they are at one moment.

    The project is empty for what does not say to which it belongs. A set has MOST_IN_A_PART digests at most.

    Args:
        database: Whose schema.
        leave_out: Tables whose rows name digests without keeping their bytes.
    """
    async with database.connection() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        for table, columns in (await _tables(connection, database.schema)).items():
            if table in leave_out or table in _HISTORY:
                continue
            project = '"project"' if '"project"::text' in columns else "''"
            query = f'SELECT {project}, {", ".join(columns)} FROM "{database.schema}"."{table}"'  # noqa: S608 - of the catalog
            found: dict[str, set[bytes]] = {}
            async for row in connection.cursor(query, prefetch=_ROWS_AT_ONCE):
                of_project = found.setdefault(row[0], set())
                for value in row:
                    for digest in digests_in(value or ""):
                        of_project.add(digest)
                        if len(of_project) >= MOST_IN_A_PART:
                            yield row[0], of_project.copy()
                            of_project.clear()
                if sum(map(len, found.values())) >= MOST_IN_A_PART:
                    for each in found.items():
                        yield each
                    found = {}
            for each in found.items():
                yield each


async def oldest_work(database: Database) -> datetime | None:
    """Return when the oldest work that goes on in the background of a service was begun, or None if there is none."""
    tables = await database.fetch(_WORK, database.schema)
    times = [await database.fetchval(f'SELECT min(create_time) FROM "{row[0]}"') for row in tables]  # noqa: S608
    return min((time for time in times if time is not None), default=None)


def digests_in(value: bytes | str) -> Iterator[bytes]:
    """Yield what may be a SHA-256 in a text or a message, 32 bytes each."""
    text = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    for match in _HEX.finditer(text):
        run = match[0]
        for start in _starts(len(run)):
            yield bytes.fromhex(run[start : start + _LENGTH].decode())


def _starts(length: int) -> Iterator[int]:
    """Yield where digests may begin in a run of digits: others may follow one, as the next field of a message."""
    last = length - _LENGTH
    return (start for start in range(last + 1) if start < _LENGTH or start > last - _LENGTH or start % 32 == 0)


async def _tables(connection: Connection, schema: str) -> dict[str, list[str]]:
    tables: dict[str, list[str]] = {}
    rows: Any = await connection.fetch(_COLUMNS, schema)
    for row in rows:
        column = f'"{row["column"]}"'
        tables.setdefault(row["table"], []).append(column if row["binary"] else f"{column}::text")
    return tables
