"""How long the pauses between batches are, by a clock of the test's own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from services.tasks.api import claims as pace
from services.tasks.api.claims import LONGEST_SECONDS, SHORTEST_SECONDS, Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()

    async def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(pace, "time", clock)
    monkeypatch.setattr(pace, "asyncio", SimpleNamespace(sleep=sleep))
    return clock


async def test_pauses_grow_with_batches_up_to_a_bound(clock: Clock) -> None:
    steady = Pace()
    assert steady.pause == 0.0
    for size in (1, 3, 1000):
        steady.done(size)
        expected = min(size * SHORTEST_SECONDS, LONGEST_SECONDS)
        assert steady.pause == expected
        before = clock.now
        await steady.wait()
        assert clock.now - before == pytest.approx(expected)


async def test_a_quiet_time_never_waits(clock: Clock) -> None:
    quiet = Pace()
    await quiet.wait()
    quiet.done(1000)
    clock.now += 2 * LONGEST_SECONDS + 0.001
    before = clock.now
    await quiet.wait()
    assert clock.now == before
    assert quiet.pause == 0.0
