"""Gives each service a role of its own in PostgreSQL: `python -m services.process.database_roles PASSWORDS`.

LATHE_DATABASE_URL is that of the database's owner. PASSWORDS is a JSON file, service → password of its role, such as
{"registry": "…"}. Run it before the first start, and before the services of a new release.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import asyncpg

from services.database.migration import NewerSchemaError
from services.database.roles import give_roles
from services.platform.settings import ConfigurationError, Settings, load_settings
from services.process.startup import StartupError, migrations_of, refuse, wait_for


def main() -> None:
    """Make the roles, or end with a sentence on standard error."""
    try:
        passwords = _read(Path(sys.argv[1]) if len(sys.argv) == 2 else None)
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


def _read(file: Path | None) -> dict[str, str]:
    if file is None:
        raise ConfigurationError("Name the file with the passwords: python -m services.process.database_roles FILE.")
    try:
        passwords: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file} is no JSON file of services and passwords: {error}.") from None
    known = {name: list(migrations_of(name)) for name in passwords}
    if not known or (strange := [name for name, found in known.items() if not found]):
        raise ConfigurationError(
            f"{file} names {strange[0] if known else 'nothing'}, which is no service with a schema."
        )
    return passwords


if __name__ == "__main__":
    main()
