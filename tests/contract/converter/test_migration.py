"""The converter's tables, brought up from those of the release before."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType

from lathe.converter.v1.conversion_service_pb2 import ConversionSpec, ConversionTask

from services.converter import migrations
from services.database.pool import Database, migrate

OLD = ("0001_tasks.py", "0002_deleted_requests.py")


async def test_tasks_that_are_there_are_found_by_what_they_use(database_url: str, tmp_path: Path) -> None:
    for name in OLD:
        (tmp_path / name).write_text((Path(migrations.__path__[0]) / name).read_text())
    before = ModuleType("before")
    before.__path__ = [str(tmp_path)]
    await migrate(database_url, "converter", before)
    database = await Database.connect(database_url, "converter")
    spec = ConversionSpec(model_version="models/a/versions/1", template="templates/t", output_model="models/b")
    spec.overrides.values.components.add(name="net", architecture="architectures/x")
    uid = uuid.uuid4()
    await database.execute(
        "INSERT INTO tasks (uid, name, display_name, owner, labels, create_time, update_time, revision, search_text, "
        "device, state, work_key, leads, dispatches, held, assignment, body, live) "
        "VALUES ($1, '', '', '', '{}', $2, $2, 1, '', '', 3, '', FALSE, 1, FALSE, '', $3, '')",
        uid,
        datetime.now(UTC),
        ConversionTask(spec=spec).SerializeToString(),
    )
    await migrate(database_url, "converter", migrations)
    uses = await database.fetchval("SELECT uses FROM tasks WHERE uid = $1", uid)
    assert uses == ["models/a/versions/1", "templates/t", "models/b", "architectures/x"]
    await database.close()
