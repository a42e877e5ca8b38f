"""The queue in sight: what a waiting task is told of its place, and what the registry is told of every device.

Figures are kept for a moment, so that many who ask cost little.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import structlog
from google.protobuf.duration_pb2 import Duration
from lathe.internal.v1.queue_pb2 import QueueOfDevice, QueueReport
from lathe.type.v1 import task_pb2
from nats.aio.msg import Msg

from services.bus.connection import Bus
from services.bus.topology import queues_subject
from services.platform.kept import Kept
from services.tasks.api.workers import WorkersView, slots_of
from services.tasks.kind import TaskKind
from services.tasks.state.queue import Look, TaskQueue
from services.tasks.state.rows import TaskRow, timestamp
from services.tasks.state.standing import Standing
from services.tasks.state.turns import Weights, place

log = structlog.get_logger(__name__)

KEPT_SECONDS = 1.0
DURATION_KEPT_SECONDS = 30.0


class Queues:
    """The queues of one kind."""

    def __init__(
        self,
        kind: TaskKind,
        standing: Standing,
        queue: TaskQueue,
        workers: WorkersView,
        bus: Bus,
        *,
        weights: Weights | None = None,
    ) -> None:
        self._kind = kind
        self._standing = standing
        self._workers = workers
        self._bus = bus
        self._weights = weights
        self._waiting = Kept(standing.waiting, lambda: KEPT_SECONDS)
        self._looks: Kept[str, list[Look]] = Kept(lambda device: queue.look([device]), lambda: KEPT_SECONDS)
        self._durations = Kept(self._usual_seconds, lambda: DURATION_KEPT_SECONDS)

    async def of(self, row: TaskRow) -> task_pb2.TaskQueue | None:
        """Return where a task stands in its queue; None if it does not wait for a worker."""
        if row.state != task_pb2.TASK_STATE_PENDING or row.leader is not None:
            return None
        (look,) = await self._looks.get(row.device)
        entry = await self._standing.entry(row.uid)
        position = 1
        if entry is not None:
            position = turn = await self._standing.turn(row.device, entry)
            if not entry.sent:
                ahead = await self._waiting.get(row.device)
                position = place(ahead, look.sent, entry.rank, entry.owner, turn, weights=self._weights)
        # What was handed on waits for a worker on the device.
        serving = self._workers.on_device if row.outcome is not None else self._workers.serving
        workers, seconds = serving(row.device), await self._durations.get(row.device)
        slots = slots_of(workers)
        told = task_pb2.TaskQueue(position=position, workers=len(workers))
        if seconds is not None:
            told.estimated_duration.CopyFrom(_duration(seconds))
            if slots:
                rounds = max(0, position + look.running - slots) / slots
                start = datetime.now(UTC) + timedelta(seconds=rounds * seconds)
                told.estimated_start_time.CopyFrom(timestamp(start.replace(microsecond=0)))
        return told

    async def report(self) -> QueueReport:
        """Return the queue of every device for which there are tasks or workers."""
        counts = {count.device: count for count in await self._standing.counts()}
        running = await self._standing.running()
        live = {worker.device for worker in self._workers.live()}
        report = QueueReport(kind=self._kind.name)
        for device in sorted({*counts, *running, *live}):
            told = QueueOfDevice(device=device, slots=self._workers.slots(device))
            told.workers = len(self._workers.serving(device))
            told.workers_on_device = len(self._workers.on_device(device))
            told.running = running.get(device, 0)
            told.sandboxes.extend(self._workers.sandboxes(device))
            if (count := counts.get(device)) is not None:
                told.waiting = count.waiting
                if count.oldest is not None:
                    told.oldest_create_time.FromDatetime(count.oldest)
            report.queues.append(told)
        return report

    async def run(self) -> None:
        """Answer who asks for the report, until cancelled."""
        reports: Kept[str, QueueReport] = Kept(lambda _: self.report(), lambda: KEPT_SECONDS)

        async def answer(message: Msg) -> None:
            try:
                await message.respond((await reports.get("")).SerializeToString())
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                log.info("queues.unanswered", error=str(error) or type(error).__name__)

        subject = queues_subject(self._kind.name)
        subscription = await self._bus.subscribe(subject, answer, queue=f"{self._kind.name}-queues")
        try:
            await asyncio.Event().wait()
        finally:
            if not self._bus.nc.is_closed:
                await subscription.unsubscribe()

    async def _usual_seconds(self, device: str) -> float | None:
        """Return how long a task for a device usually runs; None if none has run of late."""
        parse = self._kind.task_type.FromString
        return _median(parse(live) for live in await self._standing.ended(device))


def _median(tasks: Iterable[Any]) -> float | None:
    statuses = [task.status for task in tasks]
    spans = [
        (status.end_time.ToDatetime() - status.start_time.ToDatetime()).total_seconds()
        for status in statuses
        if status.HasField("start_time")
    ]
    return statistics.median(spans) if spans else None


def _duration(seconds: float) -> Duration:
    told = Duration()
    told.FromMilliseconds(max(0, round(seconds * 1000)))
    return told
