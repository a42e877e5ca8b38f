"""The table of the audit log: it is added to in the transaction of a change, and nothing in it is changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
from lathe.internal.v1.audit_service_pb2 import AuditRecord
from lathe.registry.v1.model_service_pb2 import Model

from services.audit.entries import INSERT, Call, become, current_call, note, refused_row
from services.audit.recorder import Recorder
from services.audit.schema import AUDIT_TABLE, KEPT_AT_LEAST_DAYS
from services.database.pool import Database
from services.platform.errors import not_found
from services.platform.identity import Caller


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url, "audited", max_size=2)
    await database.execute("CREATE SCHEMA audited")
    for statement in AUDIT_TABLE:
        await database.execute(statement)
    yield database
    await database.close()


async def add_old(database: Database, days: int) -> UUID:
    then = datetime.now(UTC) - timedelta(days=days)
    uid = UUID(int=(int(then.timestamp() * 1000) << 80) + days)
    await database.execute(INSERT, uid, then, "", "ann", "m", "models/x", "OK", b"")
    return uid


async def test_an_entry_is_there_if_and_only_if_its_change_is(database: Database) -> None:
    async with database.transaction() as connection:
        await note(connection, None, Model(name="models/background"), "")  # nobody called
    become(Call("Service/Method", Caller("ann"), "peer", "", "", "models/x"))
    async with database.transaction(undo=True) as connection:
        await note(connection, None, Model(name="models/undone"), "projects/p")
    async with database.transaction() as connection:
        await note(
            connection, Model(name="models/x", description="a"), Model(name="models/x", description="b"), "projects/p"
        )
    (row,) = await database.fetch("SELECT * FROM audit")
    assert (row["caller"], row["method"], row["resource"]) == ("ann", "Service/Method", "models/x")
    assert row["project"] == "projects/p"
    record = AuditRecord.FromString(row["payload"])
    assert [record.before, record.after] == [Model(description=each).SerializeToString() for each in ("a", "b")]
    call = current_call()
    assert call is not None
    assert call.noted


async def test_a_refusal_is_told_whatever_is_in_the_name(database: Database) -> None:
    row = refused_row(Call("Service/Method", Caller("ann"), "peer", "", "", ""), "models/\0", not_found("model", "x"))
    await database.executemany(INSERT, [row])
    assert await database.fetchval("SELECT resource FROM audit") == "models/␀"


async def test_nobody_changes_or_removes_what_is_written(database: Database) -> None:
    await add_old(database, KEPT_AT_LEAST_DAYS - 1)
    for statement in ("UPDATE audit SET caller = 'eve'", "TRUNCATE audit", "DELETE FROM audit"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only added to"):
            await database.execute(statement)
    assert await database.fetchval("SELECT count(*) FROM audit") == 1


async def test_what_is_old_is_forgotten(database: Database) -> None:
    kept = [await add_old(database, days) for days in (1, 364)]
    for days in (366, 400, 4000):
        await add_old(database, days)
    await Recorder(database, 365).forget(datetime.now(UTC) - timedelta(days=365))
    assert {row["uid"] for row in await database.fetch("SELECT uid FROM audit")} == set(kept)
