"""Which work goes on to a worker on the device: what was made elsewhere, as long as somebody may go on from it.

A form that runs only on its device can be built on other machines. The outcome then says that nobody has seen it
compute there. If a worker on the device lives, the task is handed on: it gets a second attempt, for such workers alone,
which begins with what the first has built. The first one does not count.
"""

from __future__ import annotations

from datetime import UTC, datetime

from lathe.internal.v1.event_pb2 import TaskEvent

from services.bus.connection import Bus
from services.tasks.api.options import TaskOptions
from services.tasks.api.workers import WorkersView
from services.tasks.kind import TaskKind, unpack
from services.tasks.state.rows import TaskRow


class Handover:
    """Decides for the tasks of one kind."""

    def __init__(self, kind: TaskKind, workers: WorkersView, bus: Bus, options: TaskOptions) -> None:
        self._kind = kind
        self._workers = workers
        self._bus = bus
        self._options = options

    def wanted(self, row: TaskRow, event: TaskEvent) -> bool:
        """Return whether a success is to be handed on; one that was, or is being recorded, is not again."""
        able = {worker.worker for worker in self._workers.on_device(row.device)}
        if row.outcome is not None or event.worker in able or not (able or self._options.verification_wait):
            return False
        packed, outcome = event.succeeded.outcome, self._kind.outcome_type()
        if not unpack(packed, outcome) or not self._kind.unverified(outcome):
            return False
        # The message for the next worker has both.
        return len(row.assignment) + packed.ByteSize() < self._bus.max_bytes

    def expired(self, row: TaskRow, handed_on: datetime) -> bool:
        """Return whether no worker on the device of a task that was handed on has lived for too long."""
        patience = max(self._options.verification_wait, self._options.verifier_lost_after)
        waited = (datetime.now(UTC) - handed_on).total_seconds()
        return min(waited, self._workers.seconds_without(row.device)) > patience
