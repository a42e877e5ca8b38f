"""Reads of single rows, gathered: what callers ask for while others are being answered is one query.

A query costs the event loop, asyncpg and PostgreSQL about the same for one row as for thirty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping

from services.database.pool import Record

AT_ONCE = 2
"""Queries under way. With one, the database would idle while the answer is given; with many, each has few rows."""


class GatheredRows:
    """Rows by a key."""

    def __init__(self, fetch: Callable[[Collection[str]], Awaitable[Mapping[str, Record]]]) -> None:
        """Read with `fetch`, which returns those rows that exist, by key."""
        self._fetch = fetch
        self._under_way = 0
        self._waiting: dict[str, list[asyncio.Future[Record | None]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, key: str) -> Record | None:
        """Return the row of a key as it is now or soon, None if there is none; raises what `fetch` raises."""
        if self._under_way < AT_ONCE:
            self._under_way += 1
            try:
                return (await self._fetch([key])).get(key)
            finally:
                self._under_way -= 1
                self._go_on()
        answer: asyncio.Future[Record | None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append(answer)
        return await answer

    def _go_on(self) -> None:
        if self._waiting and self._under_way < AT_ONCE:
            asked, self._waiting = self._waiting, {}
            # In a task of its own: nobody's answer may end with another one's call.
            self._under_way += 1
            task = asyncio.create_task(self._answer(asked))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _answer(self, asked: Mapping[str, list[asyncio.Future[Record | None]]]) -> None:
        rows: Mapping[str, Record] = {}
        failure: BaseException | None = None
        try:
            rows = await self._fetch(asked)
        except BaseException as error:  # it belongs to those who wait
            failure = error
        self._under_way -= 1
        for key, answers in asked.items():
            for answer in answers:
                if answer.done():  # its call was cancelled
                    continue
                if failure is None:
                    answer.set_result(rows.get(key))
                else:
                    answer.set_exception(failure)
        self._go_on()
