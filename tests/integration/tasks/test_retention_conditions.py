"""What each service says must stay, however old it is, on its own tables."""

from __future__ import annotations

from datetime import UTC, datetime
from types import ModuleType, SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from lathe.optimizer.v1.optimization_service_pb2 import OptimizationTask
from lathe.type.v1 import task_pb2

from services.database.migration import migrate
from services.database.pool import Database
from services.evaluator import main as evaluator
from services.evaluator import migrations as evaluator_tables
from services.optimizer import main as optimizer
from services.optimizer import migrations as optimizer_tables
from services.platform.identity import current_caller
from services.tasks.api.retention import Retention

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
    named, other = uuid4(), uuid4()
    gone: list[UUID] = []

    async def delete(row: Any) -> bool:
        assert not current_caller().is_user
        gone.append(row.uid)
        return True

    kind = SimpleNamespace(collection=collection, name="kind", service="a.Service", task_type=OptimizationTask)
    ledger: Any = SimpleNamespace(codec=SimpleNamespace(kind=kind), store=SimpleNamespace(delete=delete))
    groups: Any = None
    try:
        await database.execute(_TASK, named, f"{collection}/{named}", task_pb2.TASK_STATE_SUCCEEDED)
        await database.execute(_TASK, other, f"{collection}/{other}", task_pb2.TASK_STATE_FAILED)
        if tables is optimizer_tables:
            await database.execute(_SAVE, uuid4(), f"{collection}/{named}")
        await Retention(database, ledger, groups, days=1, stay=stay).expire(datetime.now(UTC))
    finally:
        await database.close()
    assert gone == [other]
