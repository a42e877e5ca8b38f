"""What a replica believes of the queue for a device between two looks at the table, and places in it."""

from __future__ import annotations

import math
import time

from services.tasks.state.queue import Dispatch, Look
from services.tasks.state.snapshot import CLAIMED, DONE, PENDING
from services.tasks.state.turns import Flow, Turns, Weights


class Line:
    """What this process believes of the queue for one device, between two looks at the table.

    Attributes:
        backlog: Whether something waits to be sent.
        sent: How many tasks are on the way to workers.
        reserved: Of these, how many are not in the table yet.
        running: How many run.
        looked: When the table was looked at, by the monotonic clock.
        flow: How fast workers are.
        turns: Who had the last ones.
    """

    def __init__(self, weights: Weights) -> None:
        self.backlog = True
        self.sent = 0
        self.reserved = 0
        self.running = 0
        self.looked = -math.inf
        self.flow = Flow()
        self.turns = Turns(weights)

    def observe(self, look: Look) -> None:
        """Believe the table."""
        self.backlog, self.sent, self.running = look.backlog, look.sent + self.reserved, look.running
        self.looked = time.monotonic()

    def changed(self, before: int, after: int) -> None:
        """Note that a task went from one state to another."""
        if before == PENDING and after != PENDING:
            self.sent = max(0, self.sent - 1)
        self.running = max(0, self.running + (after in CLAIMED) - (before in CLAIMED))
        if after in DONE or (before in CLAIMED and after not in CLAIMED):
            self.flow.ended(time.monotonic())


class Place:
    """A place on the way to the workers: if it is `free`, the message of the task that takes it is sent at once."""

    def __init__(self, free: bool) -> None:
        self.free = free
        self.taken: Dispatch | None = None

    def take(self, dispatch: Dispatch) -> None:
        """Take the place, or wait for one if it is not free: the task is written."""
        self.taken = dispatch
