"""Waiting for what comes about, with a limit that only a test that fails reaches, however slow the machine is."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, overload

PATIENCE_SECONDS = 60.0

T = TypeVar("T")


@overload
async def eventually(ask: Callable[[], Awaitable[T]], right: Callable[[T], object] = bool) -> T: ...


@overload
async def eventually(ask: Callable[[], T], right: Callable[[T], object] = bool) -> T: ...


async def eventually(ask: Callable[[], object], right: Callable[..., object] = bool) -> object:
    """Ask until the answer is right, and return it; AssertionError with the last one after PATIENCE_SECONDS."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        last = time.monotonic() >= ends  # a machine that stops for as long gets one more look
        found = ask()
        if inspect.isawaitable(found):
            async with asyncio.timeout(PATIENCE_SECONDS):
                found = await found
        if right(found):
            return found
        assert not last, f"it stays like this: {found}"
        await asyncio.sleep(0.02)


def wait_for(ask: Callable[[], T], seconds: float = 120.0) -> T:
    """Ask until the answer is true, and return it: `eventually`, for tests without an event loop."""
    ends = time.monotonic() + seconds
    while not (found := ask()):
        assert time.monotonic() < ends, ask
        time.sleep(0.1)
    return found
