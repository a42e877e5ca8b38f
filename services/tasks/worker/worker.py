"""The parent of a worker: takes tasks from the queue, runs each as an attempt, and says what came of it.

It does the I/O and imports no framework. An attempt ends in this order: outputs stored, terminal event stored (its
acknowledgement awaited), message acknowledged (that awaited too). Whatever is killed in between is done again, and the
state machine ignores what comes twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import socket
import time
import uuid

import nats.errors
import structlog
from google.protobuf.message import DecodeError
from lathe.internal.v1 import event_pb2
from nats.aio.msg import Msg

from services.bus.connection import Bus, BusUnavailableError
from services.bus.mirror import Mirror
from services.bus.pick import Picker, Source
from services.bus.topology import (
    TASK_CONTROL,
    TASKS,
    Timing,
    on_device,
    sent_subject,
    work_consumer,
)
from services.platform.background import end
from services.platform.telemetry import bind_task, continue_trace
from services.tasks.kind import WorkKind
from services.tasks.worker.blobs import Blobs
from services.tasks.worker.job import Job, JobTools
from services.tasks.worker.presence import Pool, Presence
from services.tasks.worker.runner import JobRunner
from services.tasks.worker.shares import Shares
from services.tasks.worker.timings import Timings

log = structlog.get_logger(__name__)

CONTROL_TTL_SECONDS = 86400.0


class Worker:
    """One worker process. `run` serves until `stop` is called; then it ends or returns what it holds.

    Args:
        pool: What it serves.
        bus: The connection.
        blobs: Where inputs and outputs are.
        runner: Where jobs run.
        timing: The clocks of the task engine.
        drain_seconds: How long running tasks may go on after `stop`.
        name: Of the worker; made from host and process if empty.
        idle_exit_seconds: After so long with nothing to do, it stops by itself; 0 is never.
    """

    def __init__(
        self,
        pool: Pool,
        bus: Bus,
        blobs: Blobs,
        runner: JobRunner,
        *,
        timing: Timing | None = None,
        drain_seconds: float = 10.0,
        name: str = "",
        idle_exit_seconds: float = 0.0,
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._runner = runner
        self._timing = timing or Timing()
        self._drain_seconds = drain_seconds
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}".replace(".", "-")
        self._idle_exit_seconds = idle_exit_seconds
        self._kinds = {kind.name: kind for kind in pool.kinds}
        self._tools = {kind.name: self._tools_of(kind, blobs) for kind in pool.kinds}
        environments = {kind: (tools.environment, tools.environment_json) for kind, tools in self._tools.items()}
        self._presence = Presence(bus, pool, self.name, environments)
        self._shares = Shares(self._kinds)
        self._busy_until = time.monotonic()
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        keys = f"{pool.kinds[0].name}.>" if len(pool.kinds) == 1 else ">"
        self._control = Mirror(bus, TASK_CONTROL, keys, CONTROL_TTL_SECONDS, on_put=self._on_control, refresh=5.0)

    def _tools_of(self, kind: WorkKind, blobs: Blobs) -> JobTools:
        environment = {"device": self._pool.device, **kind.environment()}
        if not self._pool.on_device:
            environment["on_device"] = False  # what it makes is not verified: the cache must not take it for what is
        described = json.dumps(environment, sort_keys=True, default=str)
        digest = hashlib.sha256(described.encode()).hexdigest()
        timings = Timings(self._bus, blobs, self._pool.device, self._pool.timings)
        return JobTools(self._bus, blobs, timings, self._runner, self._timing, self.name, digest, described)

    def stop(self) -> None:
        """Take no new tasks; `run` returns when the running ones have ended or are given back."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until stopped or cancelled."""
        await self._runner.warm()
        running = (
            self._presence.run(self._timing.announced),
            self._control.run(),
            self._heartbeat(),
            self._until_idle(),
        )
        background = [asyncio.create_task(each) for each in running]
        serving = asyncio.create_task(self._serve())
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            done, _ = await asyncio.wait([serving, stopping, *background], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end([serving])
            await self._drain()
            await end([stopping, *background])
            await self._runner.close()
            await self._presence.withdraw()

    async def _serve(self) -> None:
        # A task that was cancelled while nobody served it must not start now.
        await self._control.wait()
        device = self._pool.device
        queues = {name: (name, device) for name in self._kinds}
        queues |= {_handed_on(name): (name, on_device(device)) for name in self._pool.handed_on}
        sources = {name: Source(work_consumer(*queue), sent_subject(*queue)) for name, queue in queues.items()}
        picker = Picker(self._bus, TASKS, sources, self._pool.concurrency, self._order)
        self._busy_until = time.monotonic()
        try:
            async with picker:
                while True:
                    self._begin(await picker.take(), picker)
        finally:
            # The last one may have come while this worker was stopped: it goes back like those that run.
            for message in picker.left:
                self._begin(message, picker)

    def _order(self) -> list[str]:
        # Of a kind, what is begun already comes first: little is left of it.
        return [queue for kind in self._shares.order() for queue in (_handed_on(kind), kind)]

    def _begin(self, message: Msg, picker: Picker) -> None:
        task = asyncio.create_task(self._handle(message, picker))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._busy_until = time.monotonic()

    async def _until_idle(self) -> None:
        """Return when there was nothing to do for so long that this worker is to end."""
        while True:
            await asyncio.sleep(self._idle_exit_seconds / 10 or 3600)
            idle = not self._tasks and time.monotonic() - self._busy_until >= self._idle_exit_seconds
            if idle and self._idle_exit_seconds:
                log.info("worker.idle", seconds=self._idle_exit_seconds)
                return

    async def _handle(self, message: Msg, picker: Picker) -> None:
        try:
            await self._work_on(message, given_back=message in picker.left)
        finally:
            picker.release()

    async def _work_on(self, message: Msg, *, given_back: bool) -> None:
        try:
            assignment = event_pb2.TaskAssignment.FromString(message.data)
        except DecodeError:
            log.exception("worker.unreadable", subject=message.subject)
            await message.term()
            return
        key = f"{assignment.kind}.{assignment.task_id}"
        if key in self._jobs:
            self._jobs[key].adopt(message)
            return
        job = Job(self._kinds[assignment.kind], assignment, message, self._tools[assignment.kind])
        self._jobs[key] = job
        began = time.monotonic()
        if given_back:
            job.give_back()
        try:
            with bind_task(assignment.task_id), continue_trace(f"{assignment.kind}.run", assignment.traceparent):
                if key in self._control:
                    job.cancel()
                await job.run()
        except (BusUnavailableError, nats.errors.Error) as error:
            # The message comes again after the ack wait, and the event is stored or will be by then.
            log.warning("worker.unfinished", task_id=assignment.task_id, error=str(error))
        except Exception:
            log.exception("worker.fault", task_id=assignment.task_id)
        finally:
            self._jobs.pop(key, None)
            self._shares.spent(assignment.kind, time.monotonic(), time.monotonic() - began)

    async def _on_control(self, key: str, _value: bytes) -> None:
        job = self._jobs.get(key)
        if job is not None:
            job.cancel()

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._timing.heartbeat)
            for job in list(self._jobs.values()):
                await job.heartbeat()

    async def _drain(self) -> None:
        """Let running jobs end for a while, then give them back."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._drain_seconds)
        for job in list(self._jobs.values()):
            job.give_back()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _handed_on(kind: str) -> str:
    return f"{kind}, handed on"
