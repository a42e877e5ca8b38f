"""Reads that come together are one query, and none of them suffers from another."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import pytest

from services.database.gathering import AT_ONCE, GatheredRows
from services.database.pool import Record


class Table:
    """Answers when `open` is set."""

    def __init__(self) -> None:
        self.queries: list[list[str]] = []
        self.open = asyncio.Event()
        self.failure: Exception | None = None

    async def fetch(self, keys: Collection[str]) -> Mapping[str, Record]:
        self.queries.append(sorted(keys))
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return {key: {"key": key} for key in keys if key != "missing"}


async def begun(rows: GatheredRows, keys: Collection[str]) -> list[asyncio.Task[Record | None]]:
    """Return a read of each key, all of them waiting."""
    tasks = [asyncio.create_task(rows.get(key)) for key in keys]
    await asyncio.sleep(0)
    return tasks


async def test_a_single_read_is_a_query_at_once() -> None:
    table = Table()
    table.open.set()
    assert await GatheredRows(table.fetch).get("a") == {"key": "a"}
    assert table.queries == [["a"]]


async def test_what_is_asked_for_while_queries_run_is_one_query() -> None:
    table = Table()
    keys = [f"k{number:02}" for number in range(30)] + ["missing", "k29"]
    tasks = await begun(GatheredRows(table.fetch), keys)
    assert table.queries == [[key] for key in keys[:AT_ONCE]]
    table.open.set()
    found = await asyncio.gather(*tasks)
    assert found == [None if key == "missing" else {"key": key} for key in keys]
    assert len(table.queries) == AT_ONCE + 1
    assert table.queries[-1] == sorted(set(keys[AT_ONCE:]))


async def test_no_more_queries_run_at_once_than_allowed() -> None:
    table = Table()
    running, most = 0, 0

    async def fetch(keys: Collection[str]) -> Mapping[str, Record]:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return await table.fetch(keys)

    table.open.set()
    rows = GatheredRows(fetch)

    async def reader(number: int) -> None:
        for step in range(20):
            assert await rows.get(f"{number}-{step}") == {"key": f"{number}-{step}"}

    await asyncio.gather(*(reader(number) for number in range(16)))
    assert most == AT_ONCE
    assert len(table.queries) < 16 * 20 / 4


async def test_a_failure_reaches_all_who_waited_and_nobody_else() -> None:
    table = Table()
    table.failure = ConnectionError("the database is gone")
    rows = GatheredRows(table.fetch)
    tasks = await begun(rows, "abcdef")
    table.open.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(each, ConnectionError) for each in found)
    table.failure = None
    assert await rows.get("a") == {"key": "a"}


@pytest.mark.parametrize("cancelled", [0, AT_ONCE, -1])
async def test_a_cancelled_read_takes_no_other_with_it(cancelled: int) -> None:
    table = Table()
    rows = GatheredRows(table.fetch)
    tasks = await begun(rows, "abcdefaf")
    tasks[cancelled].cancel()
    await asyncio.sleep(0)
    table.open.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found.pop(cancelled), asyncio.CancelledError)
    assert all(isinstance(each, dict) for each in found)
    assert await rows.get("z") == {"key": "z"}
