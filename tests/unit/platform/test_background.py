"""Coroutines that run beside each other, and how they end."""

import asyncio

import pytest

from services.platform.background import end, together


class Deaf:
    """Runs for ever and loses the first cancellation, as `asyncio.wait_for` may."""

    def __init__(self) -> None:
        self.heard = 0

    async def run(self) -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.heard += 1
                if self.heard > 1:
                    raise


async def test_ending_cancels_until_it_is_heard() -> None:
    deaf = Deaf()
    task = asyncio.create_task(deaf.run())
    await asyncio.sleep(0)
    async with asyncio.timeout(30):
        await end([task])
    assert task.cancelled()
    assert deaf.heard == 2


async def test_nothing_outlives_a_cancelled_group() -> None:
    deaf = Deaf()
    group = asyncio.create_task(together(deaf.run(), Deaf().run()))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(30):
        await end([group])
    assert group.cancelled()
    assert deaf.heard == 2
    assert len([task for task in asyncio.all_tasks() if "Deaf.run" in repr(task)]) == 0


async def test_a_failure_ends_the_others_and_is_told() -> None:
    deaf = Deaf()

    async def fails() -> None:
        raise ValueError("no")

    async with asyncio.timeout(30):
        with pytest.raises(ValueError, match="no"):
            await together(deaf.run(), fails())
    assert deaf.heard >= 1
