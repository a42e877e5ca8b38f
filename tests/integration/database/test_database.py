from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import asyncpg
import pytest

from services.database.pool import Database
from tests.eventually import PATIENCE_SECONDS, eventually

MOST = 4


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url, "things", max_size=MOST)
    await database.execute("CREATE SCHEMA things")
    await database.execute("CREATE TABLE things (name text PRIMARY KEY, info jsonb)")
    yield database
    await database.close()


async def test_names_are_found_in_the_service_schema(database: Database) -> None:
    assert await database.fetchval("SELECT to_regclass('things.things')::text") == "things"


async def test_values_travel_both_ways(database: Database) -> None:
    info = {"a": [1, None, "ü"]}
    assert await database.execute("INSERT INTO things VALUES ($1, $2)", "x", info) == "INSERT 0 1"
    row = await database.fetchrow("SELECT * FROM things WHERE name = $1", "x")
    assert row is not None
    assert dict(row) == {"name": "x", "info": info}
    assert await database.fetchrow("SELECT * FROM things WHERE name = 'y'") is None


async def test_a_connection_that_is_of_no_use_is_given_to_nobody_else(database: Database) -> None:
    async with database.connection() as connection:
        first = await connection.fetchval("SELECT pg_backend_pid()")

    async def break_one() -> None:
        async with database.transaction():
            raise asyncpg.InternalClientError("cannot switch to state 11; another operation (2) is in progress")

    for _ in range(2):  # the pool gives out the same one until it is closed
        with pytest.raises(asyncpg.InterfaceError, match="unusable"):
            await break_one()
        assert await database.fetchval("SELECT pg_backend_pid()") != first


async def test_a_transaction_is_committed_whole_or_not_at_all(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("INSERT INTO things VALUES ('a')")

    async def insert_two() -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO things VALUES ('b')")
            await connection.execute("INSERT INTO things VALUES ('a')")

    with pytest.raises(asyncpg.UniqueViolationError):
        await insert_two()
    assert [row["name"] for row in await database.fetch("SELECT name FROM things")] == ["a"]


async def test_a_block_can_join_a_transaction(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            async with database.transaction(connection) as joined:
                assert joined is connection
                await joined.execute("INSERT INTO things VALUES ('a')")
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await database.fetchval("SELECT count(*) FROM things") == 0


async def test_a_cancelled_transaction_leaves_a_usable_pool(database: Database) -> None:
    async def hold() -> None:
        async with database.transaction() as connection:
            await connection.execute("INSERT INTO things VALUES ('a')")
            await connection.execute("SELECT pg_sleep(60)")

    async def sleeps() -> bool:
        asked = (
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database())"
        )
        return bool(await database.fetchval(asked))

    task = asyncio.create_task(hold())
    await eventually(sleeps)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await asyncio.gather(*(database.fetchval("SELECT count(*) FROM things") for _ in range(8))) == [0] * 8


async def test_lost_connections_are_replaced(database: Database, database_url: str) -> None:
    closed = asyncio.Event()
    async with database.connection() as connection:
        own = await connection.fetchval("SELECT pg_backend_pid()")
        connection.add_termination_listener(lambda _: closed.set())
    other = await asyncpg.connect(database_url)
    await other.execute("SELECT pg_terminate_backend($1)", own)
    await other.close()
    await asyncio.wait_for(closed.wait(), PATIENCE_SECONDS)
    assert await database.fetchval("SELECT 1") == 1


async def test_many_callers_share_few_connections(database: Database) -> None:
    await database.executemany("INSERT INTO things VALUES ($1)", [(f"n{number}",) for number in range(50)])
    counts = await asyncio.gather(*(database.fetchval("SELECT count(*) FROM things") for _ in range(50)))
    assert counts == [50] * 50


async def test_who_waits_for_a_connection_gets_the_first_that_is_given_back(database: Database) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(MOST - 1):
            await stack.enter_async_context(database.connection())
        async with database.connection():
            waiting = [asyncio.create_task(database.fetchval("SELECT 1")) for _ in range(3)]
            await asyncio.sleep(0.1)
            assert not any(each.done() for each in waiting)
        assert await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE_SECONDS) == [1, 1, 1]


async def test_a_query_takes_the_connection_of_the_one_before(database: Database) -> None:
    pids = {await database.fetchval("SELECT pg_backend_pid()") for _ in range(20)}
    assert len(pids) == 1
