"""A role of PostgreSQL for each service, which owns its schemas and sees no other: made by the owner of the database.

The role of the registry is `lathe_registry`. The owner alone changes the shared schema, whose functions every service
runs with its own rights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg

from services.database.migration import ADVISORY_LOCK, CONNECT_TIMEOUT_SECONDS, SHARED_SCHEMA, migrate_shared

# Sequences of columns follow their tables. What is a part of something else, such as the row type of a table, too.
_TAKE_OVER = """
    SELECT format('ALTER %s %s OWNER TO %I', kind, name, $2::text) FROM (
        SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
               ELSE 'TABLE' END AS kind, format('%I.%I', $1::text, relname) AS name
        FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'p', 'S', 'v', 'm', 'f')
            AND pg_get_userbyid(relowner) <> $2
            AND NOT EXISTS (SELECT FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = pg_class.oid
                            AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i'))
        UNION ALL
        SELECT 'ROUTINE', oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = to_regnamespace($1) AND pg_get_userbyid(proowner) <> $2
        UNION ALL
        SELECT 'TYPE', format('%I.%I', $1::text, typname) FROM pg_type
        WHERE typnamespace = to_regnamespace($1) AND typtype IN ('e', 'd', 'r') AND pg_get_userbyid(typowner) <> $2
    ) AS found
"""


def role_of(service: str) -> str:
    """Return the name of a service's role."""
    return f"lathe_{service}"


def url_of(owner_url: str, service: str, password: str) -> str:
    """Return the URL with which a service connects, from that of the owner."""
    parts = urlsplit(owner_url)
    address = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role_of(service)}:{quote(password, safe='')}@{address}"))


async def give_roles(owner_url: str, schemas: Mapping[str, Sequence[str]], passwords: Mapping[str, str]) -> None:
    """Make what is missing: the database, the newest shared schema, and a role for each service.

    Safe to run at every start and upgrade. It sets the passwords, and gives schemas to the roles that others have made;
    services migrate their own.

    Args:
        owner_url: Of whoever owns the database, or may create it, and may create roles.
        schemas: The schemas of each service.
        passwords: The password of each service.

    Raises:
        OSError, asyncpg.PostgresError: The server does not answer, or refuses.
        NewerSchemaError: A newer release has migrated the shared schema.
    """
    await migrate_shared(owner_url)
    connection = await asyncpg.connect(owner_url, timeout=CONNECT_TIMEOUT_SECONDS)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1::int, 0)", ADVISORY_LOCK)
            await _close_to_others(connection)
            for service, owned in schemas.items():
                await _make_role(connection, role_of(service), passwords[service])
                for schema in owned:
                    await _give(connection, schema, role_of(service))
    finally:
        await connection.close()


async def _close_to_others(connection: Any) -> None:
    await _run(
        connection, "REVOKE ALL ON DATABASE %I FROM PUBLIC", await connection.fetchval("SELECT current_database()")
    )
    await _run(connection, "REVOKE ALL ON SCHEMA %I FROM PUBLIC", "public")


async def _make_role(connection: Any, role: str, password: str) -> None:
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role):
        await _run(connection, "CREATE ROLE %I LOGIN", role)
    await _run(connection, "ALTER ROLE %I PASSWORD %L", role, password)
    # Only who is a member may give something to a role, if not everything is allowed to them.
    if not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        await _run(connection, "GRANT %I TO CURRENT_USER", role)
    await _run(
        connection, "GRANT CONNECT ON DATABASE %I TO %I", await connection.fetchval("SELECT current_database()"), role
    )
    await _run(connection, "GRANT USAGE ON SCHEMA %I TO %I", SHARED_SCHEMA, role)
    await _run(connection, "GRANT SELECT ON ALL TABLES IN SCHEMA %I TO %I", SHARED_SCHEMA, role)


async def _give(connection: Any, schema: str, role: str) -> None:
    await _run(connection, "CREATE SCHEMA IF NOT EXISTS %I", schema)
    await _run(connection, "ALTER SCHEMA %I OWNER TO %I", schema, role)
    for (statement,) in await connection.fetch(_TAKE_OVER, schema, role):
        await connection.execute(statement)


async def _run(connection: Any, statement: str, *names: str) -> None:
    """Run a statement with names and texts put in, quoted by the server."""
    places = ", ".join(f"${number}::text" for number in range(2, 2 + len(names)))
    await connection.execute(await connection.fetchval(f"SELECT format($1, {places})", statement, *names))
