"""Which evaluations releases rest on, those that were made before it was a column among them."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from lathe.registry.v1.release_service_pb2 import Release

from services.database.pool import Database, migrate
from services.registry import migrations
from services.registry.releases.rows import evidence_among

_RELEASE = """
INSERT INTO releases (uid, name, parent, number, model_version, kind, owner, create_time, body)
VALUES ($1, $2, 'c', $3, 'v', 1, 'ann', now(), $4)
"""


async def add(database: Database, number: int, evaluation: str) -> None:
    """Insert a release as those did that did not know the column; its channel and version need not be there."""
    body = Release(evaluation_task=evaluation).SerializeToString()
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(_RELEASE, uuid4(), f"c/releases/{number}", number, body)


async def test_releases_of_before_count(database_url: str, tmp_path: Path) -> None:
    shutil.copytree(Path(migrations.__path__[0]), tmp_path / "before")
    (tmp_path / "before/0021_evidence.py").unlink()
    before: Any = SimpleNamespace(__path__=[str(tmp_path / "before")])
    await migrate(database_url, "registry", before)
    database = await Database.connect(database_url, "registry", max_size=2)
    names = [f"evaluationTasks/{number}" for number in range(4)]
    try:
        await add(database, 1, names[0])
        await add(database, 2, "")
        await migrate(database_url, "registry", migrations)
        rows = await database.fetch("SELECT evaluation_task FROM releases ORDER BY number")
        assert [row["evaluation_task"] for row in rows] == [names[0], ""]
        await add(database, 3, names[1])  # by a replica of before that still runs
        await add(database, 4, names[2])
        assert await evidence_among(database, ["", *names[:2], names[3]]) == names[:2]
    finally:
        await database.close()
