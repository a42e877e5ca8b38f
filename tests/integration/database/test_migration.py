from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.database.migration import NewerSchemaError, newest_revision
from services.database.pool import Database, migrate
from services.resources.search import grams, squash
from tests.eventually import PATIENCE_SECONDS
from tests.integration.database import migrations


async def _versions(url: str, schema: str) -> list[str]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        database = await Database.connect(url, schema)
        rows = await database.fetch(f'SELECT version_num FROM "{schema}".alembic_version')
        await database.close()
    return [row["version_num"] for row in rows]


async def test_a_missing_database_and_schema_are_made(database_url: str) -> None:
    url = database_url + "_new"
    await migrate(url, "things", migrations)
    assert await _versions(url, "things") == ["0002"]
    database = await Database.connect(url, "things")
    assert await database.fetch("SELECT * FROM things") == [("50% :done?", 0)]
    await database.close()


async def test_many_at_once_in_one_process_migrate_once(database_url: str) -> None:
    url = database_url + "_new"
    await asyncio.gather(*(migrate(url, schema, migrations) for schema in ("one", "two", "one", "two", "one")))
    assert await _versions(url, "one") == await _versions(url, "two") == ["0002"]


MIGRATE = """
import asyncio, sys
from services.database.pool import migrate
from tests.integration.database import migrations
asyncio.run(migrate(sys.argv[1], "things", migrations))
"""


async def test_two_processes_at_once_are_safe(database_url: str) -> None:
    url = database_url + "_new"
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", MIGRATE, url, stderr=subprocess.PIPE)
        for _ in range(2)
    ]
    outcomes = [await process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outcomes
    assert await _versions(url, "things") == ["0002"]


async def test_a_schema_that_is_up_to_date_needs_no_alembic(database_url: str) -> None:
    await migrate(database_url, "things", migrations)
    code = MIGRATE + "assert not {'alembic', 'sqlalchemy'} & set(sys.modules), 'loaded'"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, database_url)
    assert await process.wait() == 0


async def test_a_schema_catches_up_from_where_it_is(database_url: str, tmp_path: Path) -> None:
    first = ModuleType("first")
    first.__path__ = [str(tmp_path)]
    source = Path(migrations.__path__[0]) / "0001_things.py"
    (tmp_path / source.name).write_text(source.read_text())
    await migrate(database_url, "things", first)
    assert await _versions(database_url, "things") == ["0001"]
    await migrate(database_url, "things", migrations)
    assert await _versions(database_url, "things") == ["0002"]


async def test_a_failing_migration_leaves_nothing(database_url: str, tmp_path: Path) -> None:
    broken = ModuleType("broken")
    broken.__path__ = [str(tmp_path)]
    (tmp_path / "0001_broken.py").write_text(
        "from services.database.migration import execute\nrevision, down_revision = '0001', None\n"
        "def upgrade():\n    execute('CREATE TABLE half (a int)', 'SELECT nonsense')\n"
    )
    with pytest.raises(Exception, match="nonsense"):
        await migrate(database_url, "broken", broken)
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT to_regclass('broken.half')") is None
    await connection.close()


async def test_an_older_release_leaves_a_newer_schema_alone(database_url: str, tmp_path: Path) -> None:
    await migrate(database_url, "newer", migrations)
    older = ModuleType("older")
    older.__path__ = [str(tmp_path)]
    (tmp_path / "0001_first.py").write_text('revision, down_revision = "0001", None\n')
    with pytest.raises(NewerSchemaError, match=r"'newer'.*version 0002.*Start the newer release"):
        await migrate(database_url, "newer", older)
    assert await _versions(database_url, "newer") == ["0002"]


def test_migrations_must_form_one_chain(tmp_path: Path) -> None:
    assert newest_revision(tmp_path) is None
    for name in ("0001_a", "0002_b"):
        (tmp_path / f"{name}.py").write_text(f"revision, down_revision = '{name}', None\n")
    with pytest.raises(RuntimeError, match="branch"):
        newest_revision(tmp_path)


async def test_the_database_cuts_grams_as_python_does(database_url: str) -> None:
    await migrate(database_url, "things", migrations)
    database = await Database.connect(database_url, "things")
    texts: list[str] = []

    @settings(max_examples=300, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.text(max_size=12).map(squash) | st.text("ab猫é", max_size=9), max_size=3).map(" ".join))
    def collect(text: str) -> None:
        texts.append(text)

    collect()
    rows = await database.fetch("SELECT text, grams(text) FROM unnest($1::text[]) AS text", texts)
    assert [row["grams"] for row in rows] == [grams(row["text"]) for row in rows]
    assert len(rows) >= 300
    await database.close()
