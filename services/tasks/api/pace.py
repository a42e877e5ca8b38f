"""How long to wait for more before a batch is handled: a batch costs nearly the same for one as for twenty."""

from __future__ import annotations

import asyncio
import time

SHORTEST_SECONDS = 0.005
LONGEST_SECONDS = 0.04


class Pace:
    """Waits the longer, the more the last batch held. The first of a quiet time never waits.

    A batch of n is followed by a pause of n times SHORTEST_SECONDS, at most LONGEST_SECONDS: at 100 items a second,
    batches stay at one or two; at 500, they grow to about twenty.
    """

    def __init__(self) -> None:
        self._pause = 0.0
        self._ended = 0.0

    @property
    def pause(self) -> float:
        """Seconds between batches just now; 0 in a quiet time."""
        return self._pause if time.monotonic() - self._ended < 2 * self._pause else 0.0

    async def wait(self) -> None:
        """Return when the next batch should be taken."""
        left = self._ended + self._pause - time.monotonic()
        if left > 0:
            await asyncio.sleep(left)

    def done(self, size: int) -> None:
        """Note that a batch of `size` items is handled."""
        self._pause = min(size * SHORTEST_SECONDS, LONGEST_SECONDS)
        self._ended = time.monotonic()
