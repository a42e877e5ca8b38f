"""Each service has a role that owns its schemas and sees no other, whatever made the schemas before."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from services.database.migration import SharedSchemaError
from services.database.pool import Database, migrate
from services.database.roles import give_roles, url_of
from services.process import database_roles
from services.process.startup import migrations_of
from services.registry import migrations as registry_migrations
from services.template import migrations as template_migrations

PASSWORDS = {"registry": 'it\'s "one"/@:', "template": "another", "optimizer": "third"}
SCHEMAS = {service: [schema for schema, _ in migrations_of(service)] for service in PASSWORDS}


async def owned_by_others(url: str, service: str) -> list[str]:
    connection = await asyncpg.connect(url)
    try:
        found = await connection.fetch(
            """
            SELECT relname FROM pg_class WHERE relnamespace = ANY($1::regnamespace[])
                AND relkind IN ('r', 'p', 'S', 'v', 'i') AND pg_get_userbyid(relowner) <> $2
            UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = ANY($1::regnamespace[])
                AND pg_get_userbyid(proowner) <> $2
            UNION ALL SELECT typname FROM pg_type WHERE typnamespace = ANY($1::regnamespace[])
                AND pg_get_userbyid(typowner) <> $2
            """,
            SCHEMAS[service],
            f"lathe_{service}",
        )
        return [row[0] for row in found]
    finally:
        await connection.close()


async def test_a_service_migrates_and_uses_its_schemas_and_reaches_no_other(database_url: str) -> None:
    await give_roles(database_url, SCHEMAS, PASSWORDS)
    own, other = (url_of(database_url, name, PASSWORDS[name]) for name in ("registry", "template"))
    await migrate(own, "registry", registry_migrations)
    await migrate(other, "template", template_migrations)
    database = await Database.connect(own, "registry")
    try:
        assert await database.fetchval("SELECT lathe.grams('abc') IS NOT NULL")
        assert await database.fetchval("SELECT count(*) FROM models") == 0
        for statement in (
            "SELECT * FROM template.templates",
            "DELETE FROM template.templates",
            "DROP SCHEMA template CASCADE",
            "CREATE TABLE template.mine (x int)",
            "CREATE TABLE lathe.mine (x int)",
            "CREATE TABLE public.mine (x int)",
            "CREATE OR REPLACE FUNCTION lathe.grams(value text) RETURNS text[] LANGUAGE sql RETURN '{}'::text[]",
            "UPDATE lathe.alembic_version SET version_num = '9'",
            "CREATE SCHEMA mine",
            "CREATE ROLE mine",
            "SET ROLE lathe_template",
            "COPY models TO PROGRAM 'true'",
            "SELECT pg_read_file('postgresql.conf')",
            "CREATE TEMPORARY TABLE mine (x int)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await database.execute(statement)
    finally:
        await database.close()


async def test_what_the_owner_has_made_before_is_given_to_the_roles(database_url: str) -> None:
    await migrate(database_url, "registry", registry_migrations)
    for _ in range(2):  # and a second time changes nothing
        await give_roles(database_url, SCHEMAS, PASSWORDS)
    assert await owned_by_others(database_url, "registry") == []
    own = url_of(database_url, "registry", PASSWORDS["registry"])
    await migrate(own, "registry", registry_migrations)
    connection = await asyncpg.connect(own)
    await connection.execute("ALTER TABLE registry.models ADD COLUMN later int")
    await connection.execute("SELECT FROM registry.audit")
    await connection.close()
    # Processes of the release before, which still come as the owner, go on.
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE registry.models SET later = 1")
    await connection.close()


async def test_an_owner_who_is_no_superuser_can_do_it(database_url: str, postgres_url: str) -> None:
    name = database_url.rpartition("/")[2]
    connection = await asyncpg.connect(postgres_url)
    owner = f"owner_{name}"
    await connection.execute(f"CREATE ROLE \"{owner}\" LOGIN CREATEROLE CREATEDB PASSWORD 'pw'")
    try:
        url = f"postgresql://{owner}:pw@{database_url.rpartition('@')[2]}_owned"
        await migrate(url, "template", template_migrations)
        schemas = {f"{name}_template": ["template"]}
        await give_roles(url, schemas, {f"{name}_template": "pw"})
        await migrate(url_of(url, f"{name}_template", "pw"), "template", template_migrations)
        own = await asyncpg.connect(url)
        await own.execute("SELECT count(*) FROM template.templates")
        await own.close()
        await connection.execute(f'DROP DATABASE "{name}_owned"')
    finally:
        await connection.execute(f'DROP ROLE IF EXISTS "lathe_{name}_template"')
        await connection.execute(f'DROP ROLE "{owner}"')
        await connection.close()


async def test_a_role_whose_shared_schema_is_old_is_told_who_can_change_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await give_roles(database_url, SCHEMAS, PASSWORDS)
    connection = await asyncpg.connect(database_url)
    await connection.execute("DROP SCHEMA lathe CASCADE")
    await connection.close()
    with pytest.raises(SharedSchemaError, match="database_roles` of this release"):
        await migrate(url_of(database_url, "template", "another"), "template", template_migrations)


@pytest.mark.parametrize(
    ("given", "told"),
    [({}, "No password is given"), ({"POSTGRES_PASSWORD_BAKER": "x"}, "_BAKER names no service")],
)
def test_the_command_says_what_it_lacks(
    given: dict[str, str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        database_roles.main()
    assert told in capsys.readouterr().err


def test_the_command_makes_the_roles(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LATHE_DATABASE_URL", database_url)
    monkeypatch.setenv("POSTGRES_PASSWORD_OPTIMIZER", "third")
    database_roles.main()

    async def connect() -> None:
        await (await asyncpg.connect(url_of(database_url, "optimizer", "third"))).close()

    asyncio.run(connect())
