"""Whose turn it is, and how far ahead tasks are sent to the workers of a device. Pure, without I/O.

The queue in NATS is first in, first out. So that a task of a higher priority, or of somebody who has nothing running,
need not wait behind ten thousand others, only as many tasks are sent there as workers can soon take.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

HIGHEST_PRIORITY = 9
SOON_SECONDS = 0.5
"""Workers get so much ahead of the rate at which they did tasks just now."""
_MEMORY_SECONDS = 2.0
MOST_REMEMBERED = 10_000
_Turn = tuple[int, float, float, int, str]
Weights = Mapping[str, float]
"""How large the share of an owner is beside the others', by name; 1 of those who are not named."""


class Waiting(NamedTuple):
    """A task that was not sent yet. `rank` is 0 for the highest priority, `number` grows with every task."""

    rank: int
    owner: str
    number: int
    task: UUID
    project: str = ""


class Turns:
    """Whose turn it is, for one device. Remembers who had the last ones."""

    def __init__(self, weights: Weights | None = None) -> None:
        self._weights = weights or {}
        self._count = 0
        self._last: dict[str, int] = {}

    def choose(self, waiting: Iterable[Waiting], held: Mapping[str, int], room: int) -> list[Waiting]:
        """Return the tasks to send next, in their order.

        Args:
            waiting: The first tasks of each owner and rank, at least `room` of them if there are so many.
            held: How many tasks of each owner are with the workers, or on the way to them.
            room: How many to send.

        Returns:
            Of the highest rank first; within a rank, always of the owner who holds least for their weight, if several
            do of the one who is due first: of equal weights, whose last turn is longest ago; of an owner, the oldest.
        """
        lines: dict[tuple[int, str], list[Waiting]] = {}
        for each in sorted(waiting, key=lambda each: each.number, reverse=True):
            lines.setdefault((each.rank, each.owner), []).append(each)
        holds = dict(held)
        total = sum(self._weights.get(owner, 1.0) for owner in {owner for _, owner in lines})
        turns = [self._turn(*key, line, holds, total) for key, line in lines.items()]
        heapq.heapify(turns)
        chosen: list[Waiting] = []
        while turns and len(chosen) < room:
            turn = heapq.heappop(turns)
            rank, owner = turn[0], turn[-1]
            line = lines[rank, owner]
            # An owner may have had a turn in a higher rank since this one was put here.
            if turn == self._turn(rank, owner, line, holds, total):
                chosen.append(line.pop())
                holds[owner] = holds.get(owner, 0) + 1
                self._count += 1
                self._last[owner] = self._count
            if line:
                heapq.heappush(turns, self._turn(rank, owner, line, holds, total))
        if len(self._last) > MOST_REMEMBERED:
            self._last = {owner: self._last[owner] for owner in {each.owner for each in chosen}}
        return chosen

    def _turn(self, rank: int, owner: str, line: list[Waiting], holds: Mapping[str, int], total: float) -> _Turn:
        weight, last = self._weights.get(owner, 1.0), self._last.get(owner, 0)
        # In a round of as many turns as all weights together, an owner of weight 1 has one, of weight 2 two.
        due = last + total / weight if last else 0.0
        return rank, holds.get(owner, 0) / weight, due, line[-1].number, owner


class Flow:
    """How many tasks may be on the way to the workers of a device, from how fast they did others just now."""

    def __init__(self) -> None:
        self._ended = 0.0
        self._time = 0.0

    def ended(self, now: float, count: int = 1) -> None:
        """Note that workers ended so many tasks; `now` is in seconds."""
        self._ended = self._faded(now) + count
        self._time = now

    def rate(self, now: float) -> float:
        """Return how many tasks workers do in a second, after what this process has seen of late."""
        return self._faded(now) / _MEMORY_SECONDS

    def room(self, now: float, slots: int, running: int, sent: int) -> int:
        """Return how many more tasks may be sent; negative if too many are on the way.

        One is always on the way: what is known of running tasks may be old, and a worker may come at any time.

        Args:
            now: The time, in seconds.
            slots: How many tasks the live workers can run at once.
            running: How many run.
            sent: How many are on the way.
        """
        return max(1, slots - running) + int(self.rate(now) * SOON_SECONDS) - sent

    def _faded(self, now: float) -> float:
        return self._ended * math.exp((self._time - now) / _MEMORY_SECONDS)


def ranked(priority: int) -> int:
    """Return the rank of a priority."""
    return HIGHEST_PRIORITY - priority


def place(
    ahead: Mapping[int, Mapping[str, int]],
    sent: int,
    rank: int,
    owner: str,
    turn: int,
    *,
    weights: Weights | None = None,
) -> int:
    """Return the place of a task in its queue, from 1.

    Args:
        ahead: How many tasks of each owner wait, by rank.
        sent: How many are on the way to workers, and so ahead of all others.
        rank: Of the task.
        owner: Of the task.
        turn: Its place among the tasks of its owner and rank, from 1.
        weights: Of the owners.
    """
    shares = weights or {}
    rounds = turn / shares.get(owner, 1.0)
    higher = sum(sum(owners.values()) for other, owners in ahead.items() if other < rank)
    beside = sum(
        min(count, round(rounds * shares.get(other, 1.0)))
        for other, count in ahead.get(rank, {}).items()
        if other != owner
    )
    return sent + higher + beside + turn
