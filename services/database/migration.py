"""Migrations: Alembic with plain SQL, one version table per schema, safe when several processes start at once.

A migration is a module `NNNN_what.py` in the package `services/<name>/migrations`:

    \"\"\"Say what changes and why.\"\"\"
    from services.database.migration import execute

    revision = "0002"
    down_revision = "0001"

    def upgrade() -> None:
        execute("CREATE TABLE …", "CREATE INDEX …")

Migrations only go forward. They are written for a search path of the service's schema, then `lathe`, so names need no
schema. A migration never changes once it is released.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from services.database import migrations as shared_migrations

if TYPE_CHECKING:
    from sqlalchemy import Connection as SyncConnection

__all__ = ["NewerSchemaError", "SharedSchemaError", "execute", "migrate", "migrate_shared"]

SHARED_SCHEMA = "lathe"
VERSION_TABLE = "alembic_version"
# Any constant does, as long as every process uses the same one: with a number for the schema, the lock that makes
# concurrent starts take turns.
ADVISORY_LOCK = 0x6C61_7468
CONNECT_TIMEOUT_SECONDS = 10
CREATE_DATABASE_ATTEMPTS = 50
MIGRATION_FILE = re.compile(r"^\d+_\w+\.py$")


class SharedSchemaError(Exception):
    """A role that may not change the shared schema needs a newer one."""

    def __init__(self) -> None:
        super().__init__(
            f"This release needs a newer schema '{SHARED_SCHEMA}' of the database, which its owner alone changes. Run "
            "`python -m services.process.database_roles` of this release with the owner's LATHE_DATABASE_URL "
            "first (deploy/README.md, Rights in the stores)."
        )


class NewerSchemaError(Exception):
    """A schema is in a version that this release does not know."""

    def __init__(self, schema: str, version: str) -> None:
        super().__init__(
            f"A newer release of Lathe has migrated the schema '{schema}' of the database to version {version}, which "
            "this release does not know, and schemas never go back. Start the newer release, or restore a backup that "
            "was made before the upgrade (deploy/README.md, Runbook)."
        )


async def migrate(url: str, schema: str, migrations: ModuleType) -> None:
    """Create the database and the schema if they are missing, and bring the schema to its newest version.

    The shared schema `lathe` is brought up first. Processes that start at once take turns with each schema, so that
    services migrate side by side; those that find nothing to do never load Alembic, which keeps some 40 MB out of every
    API process.

    Args:
        url: `postgresql://user:password@host:port/database`.
        schema: the service's schema.
        migrations: the package that holds the migrations, for example `services.registry.migrations`.

    Raises:
        NewerSchemaError: a newer release has migrated the schema.
        SharedSchemaError: the shared schema is not up to date, and this role may not change it.
        OSError, asyncpg.PostgresError: the server does not answer, or refuses.
    """
    connection = await _connect_creating_database(url)
    try:
        try:
            await _bring_up(connection, url, SHARED_SCHEMA, shared_migrations)
        except asyncpg.InsufficientPrivilegeError as error:
            raise SharedSchemaError from error
        await _bring_up(connection, url, schema, migrations)
    finally:
        # Closing ends the session, and with it a lock that is still held.
        await connection.close()


async def migrate_shared(url: str) -> None:
    """Create the database if it is missing, and bring the shared schema to its newest version. Errors as `migrate`."""
    connection = await _connect_creating_database(url)
    try:
        await _bring_up(connection, url, SHARED_SCHEMA, shared_migrations)
    finally:
        await connection.close()


async def _bring_up(connection: Any, url: str, schema: str, package: ModuleType) -> None:
    directory = _directory(package)
    async with _turn(connection, _number_of(schema)):
        version = await _version(connection, schema)
        if version == newest_revision(directory):
            return
        if version is not None and version not in _revisions(directory):
            raise NewerSchemaError(schema, version)
        # To ask for it although it exists takes the right to make any.
        if await connection.fetchval("SELECT to_regnamespace($1)", schema) is None:
            await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
        # Alembic keeps its state in its module: a process runs it once at a time.
        async with _turn(connection, -os.getpid()):
            await _upgrade(url, schema, directory)


@asynccontextmanager
async def _turn(connection: Any, number: int) -> AsyncIterator[None]:
    """Wait until no other session holds the number, and hold it."""
    await connection.execute("SELECT pg_advisory_lock($1::int, $2::int)", ADVISORY_LOCK, number)
    yield
    await connection.execute("SELECT pg_advisory_unlock($1::int, $2::int)", ADVISORY_LOCK, number)


def _number_of(schema: str) -> int:
    """Return a number that fits PostgreSQL's `integer`: two schemas with the same one only wait for each other."""
    return zlib.crc32(schema.encode()) & 0x7FFF_FFFF


def execute(*statements: str) -> None:
    """Run SQL statements, one per argument, inside the migration that calls this."""
    from alembic import op

    for statement in statements:
        op.get_bind().exec_driver_sql(statement)


def newest_revision(directory: Path) -> str | None:
    """Return the revision that no other migration of the directory builds on; None if there is no migration."""
    revisions = _revisions(directory)
    heads = set(revisions) - set(revisions.values())
    if len(heads) > 1:
        raise RuntimeError(f"Migrations in {directory} branch: {sorted(heads)} have no successor. Chain them.")
    return heads.pop() if heads else None


def _revisions(directory: Path) -> dict[str, str | None]:
    """Return each revision of the directory, with the one that it builds on."""
    revisions: dict[str, str | None] = {}
    for path in sorted(directory.iterdir()):
        if MIGRATION_FILE.match(path.name):
            module = _load(path)
            revisions[module.revision] = module.down_revision
    return revisions


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"_lathe_migration_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _directory(package: ModuleType) -> Path:
    return Path(next(iter(package.__path__)))


async def _version(connection: Any, schema: str) -> str | None:
    table = f'"{schema}".{VERSION_TABLE}'
    if await connection.fetchval("SELECT to_regclass($1)", table) is None:
        return None
    version: str | None = await connection.fetchval(f"SELECT version_num FROM {table}")  # noqa: S608 - our own names
    return version


async def _connect_creating_database(url: str) -> Any:
    for _ in range(CREATE_DATABASE_ATTEMPTS):
        try:
            return await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_SECONDS)
        except asyncpg.InvalidCatalogNameError:
            await _create_database(url)
    return await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_SECONDS)


async def _create_database(url: str) -> None:
    parts = urlsplit(url)
    database = parts.path.removeprefix("/")
    connection = await asyncpg.connect(urlunsplit(parts._replace(path="/postgres")), timeout=CONNECT_TIMEOUT_SECONDS)
    try:
        quoted = '"' + database.replace('"', '""') + '"'
        await connection.execute(f"CREATE DATABASE {quoted}")
    except (asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
        return  # another process was faster
    except asyncpg.ObjectInUseError:
        await asyncio.sleep(0.2)  # another process is copying the template database right now
    finally:
        await connection.close()


async def _upgrade(url: str, schema: str, directory: Path) -> None:
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    async def connect() -> Any:
        # asyncpg reads the whole URL itself, with every form that libpq knows; SQLAlchemy's parser knows fewer.
        search_path = {"search_path": f'"{schema}", {SHARED_SCHEMA}'}
        return await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_SECONDS, server_settings=search_path)

    engine = create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_run_alembic, schema, directory)
    finally:
        await engine.dispose()


def _run_alembic(connection: SyncConnection, schema: str, directory: Path) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection, "schema": schema, "version_table": VERSION_TABLE})
    # Alembic interpolates `%` in options, and runs `env.py` of the script location.
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", str(directory).replace("%", "%%"))
    command.upgrade(config, "head")
