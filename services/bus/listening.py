"""Waiting for messages that have no delivery guarantee: whoever waits looks again after some time, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from nats.aio.msg import Msg

from services.bus.connection import Bus


@asynccontextmanager
async def listening(bus: Bus, *subjects: str) -> AsyncIterator[asyncio.Event]:
    """Give an event that is set whenever something arrives on one of the subjects."""
    arrived = asyncio.Event()

    async def wake(_: Msg) -> None:
        arrived.set()

    subscriptions = [await bus.subscribe(subject, wake) for subject in subjects]
    try:
        yield arrived
    finally:
        for subscription in subscriptions:
            if not bus.nc.is_closed:
                await subscription.unsubscribe()


async def wait_for_any(arrived: asyncio.Event, seconds: float) -> bool:
    """Wait until something arrives, or so many seconds; returns whether something did."""
    try:
        async with asyncio.timeout(seconds):
            await arrived.wait()
    except TimeoutError:
        return False
    return True
