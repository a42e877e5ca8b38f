"""Answers that change rarely, kept for some seconds, each asked for once for all who want it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

__all__ = ["Kept"]

_MOST = 10_000
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Answers by key. An error goes to those who wait for the answer; neither an error nor None is kept."""

    def __init__(self, ask: Callable[[K], Awaitable[V]], seconds: Callable[[], float]) -> None:
        """Ask with `ask`, and keep each answer for `seconds` from before it was asked for."""
        self._ask = ask
        self._seconds = seconds
        self._answers: dict[K, tuple[float, V]] = {}
        self._asked: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """Return the answer for a key; raises what `ask` raises."""
        found = self._answers.get(key)
        if found is not None and found[0] > monotonic():
            return found[1]
        # Nobody's answer may end with another one's call.
        return await asyncio.shield(self._asking(key))

    def latest(self, key: K) -> V | None:
        """Return the last answer, however old; a new one is asked for meanwhile if it is old, or if there is none.

        `ask` must not raise then.
        """
        found = self._answers.get(key)
        if found is None or found[0] <= monotonic():
            self._asking(key)
        return None if found is None else found[1]

    def _asking(self, key: K) -> asyncio.Task[V]:
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = asyncio.create_task(self._answer(key))
            asked.add_done_callback(lambda _: self._asked.pop(key, None))
        return asked

    async def _answer(self, key: K) -> V:
        # Counted from before the question: what has changed since may not be in the answer.
        until = monotonic() + self._seconds()
        answer = await self._ask(key)
        if len(self._answers) >= _MOST:
            self._answers.clear()
        if answer is not None:
            self._answers[key] = (until, answer)
        return answer
