"""What each service says must stay, however old it is, on its own tables."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from types import ModuleType, SimpleNamespace
from typing import Any, cast
from uuid import UUID, uuid4

import grpc
import pytest
from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationComparison
from lathe.optimizer.v1.optimization_service_pb2 import OptimizationTask
from lathe.type.v1 import task_pb2
from lathe.type.v1.operation_pb2 import OPERATION_STATE_RUNNING, OPERATION_STATE_SUCCEEDED

from services.database.migration import migrate
from services.database.pool import Database
from services.evaluator import main as evaluator
from services.evaluator import migrations as evaluator_tables
from services.evaluator.comparisons import Comparisons
from services.optimizer import main as optimizer
from services.optimizer import migrations as optimizer_tables
from services.platform.identity import current_caller
from services.platform.settings import Settings
from services.tasks.api.retention import FindNamed, Retention

_TASK = """
    INSERT INTO tasks (uid, name, display_name, owner, labels, create_time, update_time, revision, search_text, device,
        state, work_key, leads, dispatches, held, assignment, body, live)
    VALUES ($1, $2, '', 'ann', '{}', now(), now(), 1, '', '', $3, '', FALSE, 0, FALSE, '', '', '')
"""
_SAVE = """
    INSERT INTO model_saves (uid, name, parent, display_name, owner, labels, create_time, update_time, revision,
        search_text, body, detail, state)
    VALUES ($1, $2 || '/saves/1', $2, '', 'ann', '{}', now(), now(), 1, '', '', '', 1)
"""


GROUP = "evaluationTaskGroups/g"
_COMPARISON = """
    INSERT INTO comparisons (uid, name, owner, create_time, update_time, tasks, labels, body, detail, state)
    VALUES (gen_random_uuid(), $1, 'ann', now(), now() - $4::interval, $2, $3, $6, '', $5)
"""


async def compare(database: Database, tasks: list[str], labels: dict[str, str], age: timedelta, state: int) -> None:
    """Insert a comparison."""
    name = f"evaluationComparisons/{uuid4()}"
    body = EvaluationComparison(name=name, etag=tasks[0]).SerializeToString()
    await database.execute(_COMPARISON, name, tasks, labels, age, state, body)


async def expired(
    database: Database,
    stay: str,
    collection: str,
    *,
    named: FindNamed | None = None,
    first: Callable[[datetime], Awaitable[None]] | None = None,
    before: datetime | None = None,
) -> set[UUID]:
    """Let retention go once; return what it deleted."""
    gone: set[UUID] = set()

    async def delete(row: Any) -> bool:
        assert not current_caller().is_user
        await database.execute("DELETE FROM tasks WHERE uid = $1", row.uid)
        gone.add(row.uid)
        return True

    kind = SimpleNamespace(collection=collection, name="kind", service="a.Service", task_type=OptimizationTask)
    ledger: Any = SimpleNamespace(codec=SimpleNamespace(kind=kind), store=SimpleNamespace(delete=delete))
    groups: Any = None
    retention = Retention(database, ledger, groups, days=1, stay=stay, named=named)
    if first is not None:
        retention.first.append(first)
    await retention.expire(before or datetime.now(UTC))
    return gone


async def add(database: Database, collection: str, state: int, group: str = "") -> UUID:
    """Insert a task."""
    uid = uuid4()
    await database.execute(_TASK, uid, f"{collection}/{uid}", state)
    if group:
        await database.execute("UPDATE tasks SET uses = ARRAY[$2] WHERE uid = $1", uid, group)
    return uid


@pytest.mark.parametrize(
    ("tables", "stay", "collection"),
    [
        (evaluator_tables, evaluator.STAY, "evaluationTasks"),
        (optimizer_tables, optimizer.STAY, "optimizationTasks"),
    ],
    ids=["evaluations", "optimizations"],
)
async def test_what_others_name_stays(database_url: str, tables: ModuleType, stay: str, collection: str) -> None:
    await migrate(database_url, "service", tables)
    database = await Database.connect(database_url, "service", max_size=3)
    try:
        named = await add(database, collection, task_pb2.TASK_STATE_SUCCEEDED)
        other = await add(database, collection, task_pb2.TASK_STATE_FAILED)
        unnamed = await add(database, collection, task_pb2.TASK_STATE_SUCCEEDED)
        if tables is optimizer_tables:
            await database.execute(_SAVE, uuid4(), f"{collection}/{named}")
        else:
            names, ended = [f"{collection}/{named}", f"{collection}/{uuid4()}"], OPERATION_STATE_SUCCEEDED
            await compare(database, names, {}, timedelta(), ended)
        assert await expired(database, stay, collection) == {other, unnamed}
    finally:
        await database.close()


async def test_comparisons_go_like_evaluations_and_what_releases_rest_on_stays(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await migrate(database_url, "service", evaluator_tables)
    database = await Database.connect(database_url, "service", max_size=3)
    collection, ok = "evaluationTasks", task_pb2.TASK_STATE_SUCCEEDED
    channel = grpc.aio.insecure_channel("127.0.0.1:1")
    platform: Any = SimpleNamespace(settings=Settings(), database=database, channel=lambda _: channel)
    comparisons = Comparisons(platform, cast("Any", None), cast("Any", None))
    asked: set[str] = set()
    try:
        compared, kept, running, released, mate, single, changed = [
            await add(database, collection, ok, group) for group in ("", "", "", GROUP, GROUP, "", "")
        ]
        old, done = timedelta(days=2), OPERATION_STATE_SUCCEEDED
        for uid, labels, age, state in (
            (compared, {}, old, done),
            (kept, {"keep": "yes"}, old, done),
            (running, {}, old, OPERATION_STATE_RUNNING),
            (single, {}, timedelta(), done),
            (changed, {}, old, done),
        ):
            await compare(database, [f"{collection}/{uid}"], labels, age, state)

        async def named(names: Collection[str]) -> set[str]:
            asked.update(names)
            return {f"{collection}/{released}"}

        delete = comparisons.operations.delete

        async def change_first(name: str, etag: str = "") -> None:
            if etag.endswith(str(changed)):
                body = EvaluationComparison(name=name, etag="another").SerializeToString()
                await database.execute("UPDATE comparisons SET body = $2 WHERE name = $1", name, body)
            await delete(name, etag)

        monkeypatch.setattr(comparisons.operations, "delete", change_first)
        back = "UPDATE tasks SET create_time = now() - $1::interval, update_time = now() - $1::interval"
        await database.execute(back, old)
        day_ago = datetime.now(UTC) - timedelta(days=1)
        gone = await expired(
            database, evaluator.STAY, collection, named=named, first=comparisons.expire, before=day_ago
        )
        left = await database.fetch("SELECT tasks[1] AS task FROM comparisons")
    finally:
        await database.close()
        await channel.close()
    # Of the group one is what a release rests on: it stays whole.
    assert gone == {compared}
    assert {row["task"] for row in left} == {f"{collection}/{uid}" for uid in (kept, running, single, changed)}
    assert asked == {f"{collection}/{uid}" for uid in (compared, released, mate)}
