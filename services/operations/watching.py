"""Watching a resource that is worked on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

__all__ = ["changes"]

M = TypeVar("M", bound=Message)
# Any replica may do the work, so that the rows are the only ones to ask; a progress bar needs no more.
POLL_SECONDS = 0.25


async def changes(read: Callable[[], Awaitable[M]], goes_on: Callable[[M], bool]) -> AsyncIterator[M]:
    """Yield a resource now and whenever it differs, and end with the first one that `goes_on` no more.

    Raises:
        LatheError: What `read` raises: NOT_FOUND if the resource is deleted meanwhile.
    """
    last: M | None = None
    while True:
        current = await read()
        if last is None or current != last:
            last = current
            yield current
        if not goes_on(current):
            return
        await asyncio.sleep(POLL_SECONDS)
