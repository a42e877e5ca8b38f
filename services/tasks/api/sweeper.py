"""Finds tasks that got stuck, and corrects them.

Messages can be lost (a stream restored from a backup, an operator's purge), workers can die, a process can stop between
two steps. Each sweep compares the table with the queue and with the live workers. One replica sweeps at a time; every
correction is an ordinary command to the state machine, so a wrong guess does no harm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import grpc
import nats.errors
import structlog
from lathe.type.v1 import task_pb2

from services.bus.connection import Bus, BusUnavailableError
from services.bus.streams import projected, queued_subjects, remove_message
from services.bus.topology import control_subject, on_device, task_subject
from services.database.leases import Leases
from services.database.pool import Database
from services.platform.errors import LatheError
from services.resources.idempotency import forget_requests
from services.tasks.api.handover import Handover
from services.tasks.api.ledger import Ledger
from services.tasks.api.options import TaskOptions
from services.tasks.api.projector import Projector
from services.tasks.api.relay import Outbox
from services.tasks.api.settler import Settler
from services.tasks.api.workers import WorkersView
from services.tasks.state.commands import CancelExpired, Promote, TakeAsBuilt, WorkerLost
from services.tasks.state.machine import TERMINAL
from services.tasks.state.queue import TaskQueue
from services.tasks.state.rows import TaskRow, timestamp
from services.tasks.state.snapshot import registering

log = structlog.get_logger(__name__)

PAGE = 1000
FORGET_SECONDS = 3600.0
RENEW_SECONDS = 900.0
"""How often what tasks hold is held for longer: several times within the hour that it lasts."""
_NIL = UUID(int=0)


class Sweeper:
    """Sweeps the tasks of one kind."""

    def __init__(
        self,
        database: Database,
        ledger: Ledger,
        settler: Settler,
        outbox: Outbox,
        *,
        queue: TaskQueue,
        projector: Projector,
        handover: Handover,
        workers: WorkersView,
        bus: Bus,
        options: TaskOptions,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._settler = settler
        self._outbox = outbox
        self._queue = queue
        self._projector = projector
        self._handover = handover
        self._workers = workers
        self._bus = bus
        self._options = options
        self._kind = ledger.codec.kind.name
        self._forgot = time.monotonic()
        self._renew_at = 0.0
        self._leases = Leases(database)

    async def run(self) -> None:
        """Sweep periodically until cancelled."""
        while True:
            await asyncio.sleep(self._options.sweep_every)
            if not self._bus.connected or not self._workers.known:
                continue
            try:
                await self.sweep()
            except (nats.errors.Error, BusUnavailableError, LatheError, TimeoutError) as error:
                log.info("sweep.interrupted", error=str(error) or type(error).__name__)

    async def sweep(self) -> None:
        """Sweep once, unless another replica is doing so."""
        async with self._leases.attempt(f"sweep {self._kind}") as lease:
            if lease is not None:
                await self._sweep()
        if time.monotonic() - self._forgot > FORGET_SECONDS:
            self._forgot = time.monotonic()
            await forget_requests(self._database)
            await self._leases.forget_ended()

    async def _sweep(self) -> None:
        # The queue is read first: a task created after that is seen as queued or too young, never as lost.
        queued = await queued_subjects(self._bus, self._kind)
        caught_up = await projected(self._bus, self._kind)
        known: set[str] = set()
        if renew := time.monotonic() >= self._renew_at:
            self._renew_at = time.monotonic() + RENEW_SECONDS
        after = _NIL
        while rows := await self._ledger.store.unsettled(after, PAGE):
            after = rows[-1].uid
            known.update(subject for row in rows if row.state not in TERMINAL for subject in self._subjects(row))
            await self._sweep_page(rows, queued, caught_up=caught_up, renew=renew)
        await self._remove_stale(queued - known)
        await self._queue.forget_ended()

    async def _sweep_page(self, rows: Sequence[TaskRow], queued: set[str], *, caught_up: bool, renew: bool) -> None:
        waiting = [row for row in rows if row.state == task_pb2.TASK_STATE_PENDING and row.leader is None]
        if caught_up:
            await self._republish([row for row in waiting if queued.isdisjoint(self._subjects(row))])
        alive = self._workers.alive()
        for row in waiting:
            if row.outcome is not None:
                await self._sweep_handed_on(row)
        for row in rows:
            if row.state == task_pb2.TASK_STATE_RUNNING:
                in_queue = not (caught_up and queued.isdisjoint(self._subjects(row)))
                await self._sweep_running(row, alive, in_queue=in_queue)
            elif row.state == task_pb2.TASK_STATE_CANCELLING:
                await self._sweep_cancelling(row, alive)
        # Siblings are asked last: one that is away must not keep lost tasks from being found.
        if renew:
            await self._renew([row for row in rows if row.held and row.state not in TERMINAL])
        try:
            await self._settler.release([row for row in rows if row.state in TERMINAL])
            await self._sweep_followers(
                [row for row in rows if row.state == task_pb2.TASK_STATE_PENDING and row.leader is not None]
            )
        except (LatheError, grpc.aio.AioRpcError) as error:
            log.info("sweep.deferred", error=str(error))

    async def _renew(self, rows: Sequence[TaskRow]) -> None:
        """Let what tasks hold be held for longer; at the next sweep if the registry, perhaps an older one, does not."""
        try:
            await self._settler.renew(rows)
        except (LatheError, grpc.aio.AioRpcError) as error:
            log.warning("sweep.not_renewed", error=str(error))
            self._renew_at = 0.0

    async def _sweep_followers(self, followers: Sequence[TaskRow]) -> None:
        leaders = await self._ledger.store.load({row.leader for row in followers if row.leader is not None})
        await self._settler.answer_followers([row for row in leaders.values() if row.state in TERMINAL])
        for row in followers:
            if row.leader not in leaders:
                await self._ledger.command(row.uid, Promote(timestamp()))

    async def _republish(self, rows: Sequence[TaskRow]) -> None:
        """Send tasks again that have no message in the queue."""
        old = [row for row in rows if self._age(row) > self._options.republish_after]
        if not old:
            return
        uids = [row.uid for row in old]
        waiting = await self._queue.unsent(uids, self._options.republish_after) | await self._outbox.tasks(uids)
        lost = [row for row in old if row.uid not in waiting]
        changes = [self._ledger.dispatch(row, self._ledger.codec.snapshot(row)) for row in lost]
        if saved := await self._ledger.commit(changes):
            log.warning("sweep.republished", count=len(saved))

    async def _sweep_handed_on(self, row: TaskRow) -> None:
        """Record what was made of a task as it is, if no worker on the device is left to go on from it."""
        made = self._ledger.codec.snapshot(row).handed_on
        if made is None or not self._handover.expired(row, made.end_time.ToDatetime(UTC)):
            return
        log.warning("sweep.not_verified", task_id=str(row.uid), device=row.device)
        taken = await self._ledger.command(row.uid, TakeAsBuilt(timestamp()))
        # Unless a worker on the device has come and claimed it: then the message is in its hands.
        if taken is not None and registering(self._ledger.codec.snapshot(taken)):
            await remove_message(self._bus, self._subjects(row)[1])
            self._projector.resume(taken)

    async def _sweep_running(self, row: TaskRow, alive: frozenset[str], *, in_queue: bool) -> None:
        snapshot = self._ledger.codec.snapshot(row)
        if not snapshot.attempts:
            return
        gone = snapshot.attempts[-1].worker not in alive and self._age(row) > self._options.lost_after
        stalled = not in_queue and self._age(row) > self._options.stalled_after
        if registering(snapshot):
            if self._age(row) > self._options.stalled_after:
                self._projector.resume(row)
        elif stalled or gone:
            log.warning("sweep.worker_lost", task_id=str(row.uid), attempt=snapshot.attempt, stalled=stalled)
            await self._ledger.command(row.uid, WorkerLost(timestamp(), snapshot.attempt))

    async def _sweep_cancelling(self, row: TaskRow, alive: frozenset[str]) -> None:
        snapshot = self._ledger.codec.snapshot(row)
        worker = snapshot.attempts[-1].worker if snapshot.attempts else ""
        gone = worker not in alive and self._age(row) > self._options.lost_after
        if gone or self._age(row) > self._options.cancel_after:
            await self._ledger.command(row.uid, CancelExpired(timestamp()))
        else:
            # Its worker may have been away when it was told.
            await self._bus.publish(control_subject(self._kind, str(row.uid)), b"cancel")

    async def _remove_stale(self, subjects: set[str]) -> None:
        """Remove the messages of tasks that ended without a worker, such as those cancelled while they waited."""
        by_uid = {UUID(subject.rpartition(".")[2]): subject for subject in subjects}
        rows = await self._ledger.store.load(by_uid) if by_uid else {}
        for uid, subject in by_uid.items():
            row = rows.get(uid)
            if row is None or (row.state in TERMINAL and self._age(row) > self._options.republish_after):
                await remove_message(self._bus, subject)

    def _subjects(self, row: TaskRow) -> tuple[str, str]:
        uid = str(row.uid)
        return task_subject(self._kind, row.device, uid), task_subject(self._kind, on_device(row.device), uid)

    @staticmethod
    def _age(row: TaskRow) -> float:
        return (datetime.now(UTC) - row.update_time).total_seconds()
