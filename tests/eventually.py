"""Waiting for what comes about, with a limit that only a test that fails reaches, however slow the machine is."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

PATIENCE_SECONDS = 60.0


async def eventually(condition: Callable[[], bool | Awaitable[bool]]) -> None:
    """Return once a condition holds; TimeoutError if it does not within PATIENCE_SECONDS."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (await holds if inspect.isawaitable(holds := condition()) else holds):
            await asyncio.sleep(0.02)
