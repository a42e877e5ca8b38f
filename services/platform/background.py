"""Coroutines that run beside the calls for as long as a process lives."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any

import structlog

Work = Callable[[], Awaitable[None]]

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 15.0
# One that ran this long was well; its next failure starts from the first pause again.
_WELL = 60.0
_CANCEL_AGAIN = 0.5
_log: Any = structlog.get_logger("lathe.background")


async def supervise(work: Work) -> None:
    """Run `work` until it returns or is cancelled; start it again after a growing pause whenever it fails."""
    name = getattr(work, "__qualname__", repr(work))
    loop = asyncio.get_running_loop()
    pause = _FIRST_PAUSE
    while True:
        started = loop.time()
        try:
            await work()
        except Exception as error:
            if loop.time() - started > _WELL:
                pause = _FIRST_PAUSE
            _log.error("failed and will be started again", work=name, pause=round(pause, 2), exc_info=error)
        else:
            return
        # Spread, so that the replicas of a service do not all come back to a struggling server at once.
        await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311
        pause = min(pause * 2, _LONGEST_PAUSE)


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks and wait until they have ended, with a result or an error.

    Cancelling once is not enough: before Python 3.12, `asyncio.wait_for` loses a cancellation that arrives together
    with the answer that it waits for.
    """
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_CANCEL_AGAIN)


async def together(*works: Awaitable[None]) -> None:
    """Run coroutines side by side until one fails or the caller is cancelled; none of them outlives this.

    A TaskGroup cancels its children once, and waits without end for one that lost the cancellation (see `end`).
    """
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    finally:
        ending = asyncio.ensure_future(end(tasks))
        while not ending.done():
            with suppress(asyncio.CancelledError):  # cancelled again: they still have to end first
                await asyncio.shield(ending)


class Background:
    """`async with` around the time in which the coroutines run."""

    def __init__(self, works: list[Work]) -> None:
        self._works = works
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Background:
        self._tasks = [asyncio.create_task(supervise(work)) for work in self._works]
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._tasks)
