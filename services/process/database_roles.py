"""Gives each service a role of its own in PostgreSQL: `python -m services.process.database_roles`.

LATHE_DATABASE_URL is that of the database's owner, and POSTGRES_PASSWORD_REGISTRY and so on are the passwords of
the roles, `lathe_registry` and so on. Run it before the first start, and before the services of a new release.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

import asyncpg

from services.database.migration import NewerSchemaError
from services.database.roles import give_roles
from services.platform.settings import ConfigurationError, Settings, load_settings
from services.process.startup import StartupError, migrations_of, refuse, wait_for

_PREFIX = "POSTGRES_PASSWORD_"


def main() -> None:
    """Make the roles, or end with a sentence on standard error."""
    try:
        passwords = _passwords(os.environ)
        asyncio.run(make_roles(load_settings(), passwords))
    except (ConfigurationError, NewerSchemaError, StartupError, asyncpg.PostgresError) as error:
        refuse("database_roles", error)


async def make_roles(settings: Settings, passwords: Mapping[str, str]) -> None:
    """Make a role with the password for each service, once PostgreSQL answers.

    Raises:
        StartupError: It does not answer.
        asyncpg.PostgresError: It refuses; the user of LATHE_DATABASE_URL may not create roles.
        NewerSchemaError: A newer release has migrated the shared schema.
    """
    schemas = {service: [schema for schema, _ in migrations_of(service)] for service in passwords}

    async def answers() -> None:
        try:
            await (await asyncpg.connect(settings.database_url)).close()
        except asyncpg.InvalidCatalogNameError:
            return  # it answers; the database is made

    url = settings.database_url
    await wait_for("PostgreSQL", "LATHE_DATABASE_URL", url, settings.startup_wait_seconds, answers)
    await give_roles(url, schemas, passwords)


def _passwords(environment: Mapping[str, str]) -> dict[str, str]:
    given = {
        name.removeprefix(_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(_PREFIX) and value
    }
    if not given:
        raise ConfigurationError(f"No password is given: set {_PREFIX}REGISTRY, and so on for each service.")
    if strange := [name for name in given if not list(migrations_of(name))]:
        raise ConfigurationError(f"{_PREFIX}{strange[0].upper()} names no service that has a schema.")
    return given


if __name__ == "__main__":
    main()
