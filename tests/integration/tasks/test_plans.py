"""Many tasks, requests and records: each question about them is answered by an index of its own, and what is asked all
the time is planned once.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from lathe.converter.v1.conversion_service_pb2 import ListConversionTasksResponse

from services.database.pool import Database, migrate
from services.optimizer import migrations, records
from services.platform.settings import Settings
from services.resources.listing import ListQuery, list_page
from services.tasks.state import queue, reader
from services.tasks.state.reader import LISTING
from services.tasks.state.statements import HIT, SAVE
from tests.integration.tasks.kit import open_site

_FILL = """
INSERT INTO tasks (uid, name, display_name, owner, labels, create_time, update_time, revision, search_text, device,
    state, work_key, leads, dispatches, held, assignment, body, live, uses, action_key, outcome)
SELECT gen_random_uuid(), 'conversionTasks/' || n, 'n', 'o' || n % 500, jsonb_build_object('team', 't' || n % 500),
    now() - n * interval '1 second', now(), 1, 'n', 'd' || n % 500, CASE WHEN n % 500 = 0 THEN 2 ELSE 3 END, '', false,
    1, false, '', repeat('x', 300)::bytea, '', ARRAY['models/m/versions/' || n % 500],
    decode(md5(n::text), 'hex'), ''
FROM generate_series(1, 20000) AS n
"""
_FILL_REQUESTS = """
INSERT INTO request_ids (owner, request_id, method, fingerprint, resource, create_time)
SELECT 'o', gen_random_uuid(), 'Create', '', gen_random_uuid(), now() - n * interval '1 minute'
FROM generate_series(1, 20000) AS n
"""
_FILL_RECORDS = """
INSERT INTO records (source, device, task, sha256, size_bytes)
SELECT 's' || n % 500, 'd', 'optimizationTasks/' || n, md5(n::text), 1 FROM generate_series(1, 20000) AS n
"""
QUERIES = (
    (ListQuery(filter="labels.team = t7"), "tasks_labels"),
    (ListQuery(filter="state = RUNNING"), "tasks_state"),
    (ListQuery(filter="state = (RUNNING OR TASK_STATE_PENDING)"), "tasks_state"),
    (ListQuery(filter="device = d7"), "tasks_device"),
    (ListQuery(filter="uses:models/m/versions/7"), "tasks_uses"),
    (ListQuery(owner="o7"), "tasks_owner"),
    (ListQuery(), "tasks_recent"),
)


class Explainer:
    """Answers a query with its plan."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.plan = ""

    async def fetch(self, query: str, *args: object) -> Any:
        rows = await self._database.fetch(f"EXPLAIN {query}", *args)
        self.plan = "\n".join(row[0] for row in rows)
        return []


async def test_every_filter_has_its_index(task_settings: Settings, tmp_path: Path) -> None:
    async with open_site(task_settings, tmp_path, background=False):
        database = await Database.connect(task_settings.database_url, "echo")
        try:
            await database.execute(_FILL)
            await database.execute("VACUUM ANALYZE tasks")
            explainer = Explainer(database)
            for query, index in QUERIES:
                await list_page(explainer, LISTING, query, ListConversionTasksResponse().tasks, lambda *_: None)
                assert f" {index}" in explainer.plan
                assert "Seq Scan" not in explainer.plan
            await explainer.fetch(HIT.format(keys="$1"), [b"one", b"two"])
            assert " tasks_action" in explainer.plan
        finally:
            await database.close()


async def test_what_is_asked_all_the_time_is_planned_once(task_settings: Settings, tmp_path: Path) -> None:
    change = [[each] for each in (uuid4(), 1, 3, b"", False, None, None, None, False, 1)]
    statements: dict[str, list[Any]] = {
        reader._LOAD: [[uuid4()]],
        reader._FOUND: [[b"one"]],
        queue._TAKE: [[uuid4()]],
        SAVE: [*change, datetime.now(UTC), [], [], [], [], ["subject"], [b""], [], [], [], []],
    }
    async with open_site(task_settings, tmp_path, background=False):
        database = await Database.connect(task_settings.database_url, "echo")
        try:
            await database.execute(_FILL)
            await database.execute("VACUUM ANALYZE tasks")
            for statement, args in statements.items():
                async with database.connection() as connection:
                    prepared = await connection.prepare(statement)
                    for _ in range(20):
                        await prepared.fetch(*args)
                    query = "SELECT custom_plans FROM pg_prepared_statements WHERE name = $1"
                    # So often PostgreSQL tries before it decides.
                    assert await connection.fetchval(query, prepared.get_name()) == 5, statement
                    plan = await connection.fetch(f"EXPLAIN {statement}", *args)
                    assert not any("Seq Scan on tasks" in row[0] for row in plan), statement
        finally:
            await database.close()


async def test_old_requests_are_found_by_their_age(task_settings: Settings, tmp_path: Path) -> None:
    async with open_site(task_settings, tmp_path, background=False):
        database = await Database.connect(task_settings.database_url, "echo")
        try:
            await database.execute(_FILL_REQUESTS)
            await database.execute("VACUUM ANALYZE request_ids")
            explainer = Explainer(database)
            delete = "DELETE FROM request_ids WHERE create_time < now() - $1::interval"
            await explainer.fetch(delete, timedelta(days=13))
            assert "request_ids_age" in explainer.plan
        finally:
            await database.close()


async def test_records_are_found_by_source_and_by_digest(database_url: str) -> None:
    await migrate(database_url, "optimizer", migrations)
    database = await Database.connect(database_url, "optimizer")
    try:
        await database.execute(_FILL_RECORDS)
        await database.execute("VACUUM ANALYZE records")
        explainer = Explainer(database)
        await explainer.fetch(records._WRITERS, ["one", "two"], "p")
        assert " records_sha256" in explainer.plan
        await explainer.fetch(records._NEWEST, "s7", "d", "p")
        assert " records_newest" in explainer.plan
    finally:
        await database.close()
