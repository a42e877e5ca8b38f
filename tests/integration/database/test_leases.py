"""Leases: one holder at a time, on every replica, without a connection in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from services.database.leases import LEASES_TABLE, KeyedLocks, Leases
from services.database.pool import Database
from services.platform.errors import LatheError
from tests.eventually import eventually

SHORT = timedelta(seconds=1)
# Every three seconds: one that a busy machine renews some seconds late has not run out.
RENEWED_SOON = timedelta(seconds=9)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = await Database.connect(database_url, "leases", max_size=2)
    await database.execute("CREATE SCHEMA leases")
    await database.execute(LEASES_TABLE)
    yield database
    await database.close()


async def test_replicas_take_turns_and_hold_no_connection(database: Database) -> None:
    inside: list[int] = []
    most = 0

    async def work(leases: Leases, number: int) -> None:
        nonlocal most
        async with leases.hold("one"):
            inside.append(number)
            most = max(most, len(inside))
            await asyncio.sleep(0.01)
            assert await database.fetchval("SELECT count(*) FROM leases") == 1
            inside.remove(number)

    replicas = [Leases(database) for _ in range(3)]
    # Three holders at once would need more connections than there are, if each kept one.
    await asyncio.gather(*(work(replicas[number % 3], number) for number in range(12)))
    assert most == 1
    assert await database.fetchval("SELECT count(*) FROM leases") == 0


async def test_one_that_is_held_is_renewed_and_others_see_it(database: Database) -> None:
    leases, other = Leases(database, RENEWED_SOON), Leases(database, RENEWED_SOON)
    async with leases.hold("one") as lease:
        first = await database.fetchval("SELECT end_time FROM leases")

        async def renewed() -> bool:
            return bool(await database.fetchval("SELECT end_time > $1 FROM leases", first))

        await eventually(renewed)
        async with other.attempt("one") as refused:
            assert refused is None
        async with other.attempt("two") as taken:
            assert taken is not None
        async with database.transaction() as connection:
            await lease.confirm(connection)


async def test_whoever_was_overtaken_finds_out_before_it_writes(database: Database) -> None:
    # The late one does not find out by itself while this test goes on.
    leases, other = Leases(database, timedelta(minutes=10)), Leases(database)
    async with leases.hold("one") as late:
        # As if this process had not run for longer than the lease.
        await database.execute("UPDATE leases SET end_time = now() - interval '1 second'")
        async with other.hold("one") as lease:
            async with database.transaction() as connection:
                await lease.confirm(connection)
            with pytest.raises(LatheError, match="too slow") as overtaken:
                async with database.transaction() as connection:
                    await late.confirm(connection)
            assert overtaken.value.reason == "LEASE_LOST"
        # What the late one gives back is not what the other one took.
    assert await database.fetchval("SELECT count(*) FROM leases") == 0


async def test_whoever_was_overtaken_is_stopped_before_it_disturbs_the_next_one(database: Database) -> None:
    leases, other = Leases(database, SHORT), Leases(database)

    async def late() -> None:
        async with leases.hold("one"):
            overtake = "UPDATE leases SET holder = gen_random_uuid(), end_time = now() + interval '1 minute'"
            await database.execute(overtake)
            await asyncio.sleep(60)

    with pytest.raises(LatheError) as stopped:
        await late()
    assert stopped.value.reason == "LEASE_LOST"
    async with other.attempt("one") as refused:  # it is still the other one's
        assert refused is None


async def test_a_timeout_of_the_block_stays_one(database: Database) -> None:
    with pytest.raises(TimeoutError):
        async with Leases(database).hold("one"):
            raise TimeoutError
    assert await database.fetchval("SELECT count(*) FROM leases") == 0


async def test_a_failure_inside_frees_the_name(database: Database) -> None:
    leases = Leases(database)
    with pytest.raises(KeyError):
        async with leases.hold("one"):
            raise KeyError
    async with leases.attempt("one") as lease:
        assert lease is not None


async def test_locks_of_names_that_nobody_uses_take_no_room() -> None:
    locks = KeyedLocks()
    async with locks.hold("one"), locks.hold("two"):
        assert len(locks._locks) == 2
    assert not locks._locks


async def test_what_dead_processes_left_is_removed_in_the_end(database: Database) -> None:
    await database.execute("INSERT INTO leases VALUES ('dead', gen_random_uuid(), now() - interval '2 hours')")
    leases = Leases(database)
    async with leases.hold("alive"):
        await leases.forget_ended()
        assert [row["name"] for row in await database.fetch("SELECT name FROM leases")] == ["alive"]
