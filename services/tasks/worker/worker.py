"""The parent of a worker: takes tasks from the queue, runs each as an attempt, and says what came of it.

It does the I/O and imports no framework. An attempt ends in this order: outputs stored, terminal event stored (its
acknowledgement awaited), message acknowledged (that awaited too). Whatever is killed in between is done again, and the
state machine ignores what comes twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import uuid
from dataclasses import dataclass

import nats.errors
import structlog
from google.protobuf.message import DecodeError
from lathe.internal.v1 import event_pb2
from nats.aio.msg import Msg

from services.bus.connection import Bus, BusUnavailableError
from services.bus.mirror import Mirror
from services.bus.pull import Puller
from services.bus.topology import TASK_CONTROL, TASKS, WORKERS, Timing, work_consumer, worker_key
from services.platform.background import end
from services.platform.telemetry import bind_task, continue_trace
from services.tasks.kind import WorkKind
from services.tasks.worker.blobs import Blobs
from services.tasks.worker.job import Job, JobTools
from services.tasks.worker.runner import JobRunner

log = structlog.get_logger(__name__)

CONTROL_TTL_SECONDS = 86400.0


@dataclass(frozen=True, slots=True)
class Pool:
    """What a worker serves: tasks of `kind` for `device`, at most `concurrency` at once."""

    kind: WorkKind
    device: str
    concurrency: int = 1


class Worker:
    """One worker process. `run` serves until `stop` is called; then it ends or returns what it holds."""

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
    ) -> None:
        self._pool = pool
        self._bus = bus
        self._runner = runner
        self._timing = timing or Timing()
        self._drain_seconds = drain_seconds
        self.name = name or f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}".replace(".", "-")
        described = {"device": pool.device, **pool.kind.environment()}
        self._environment_json = json.dumps(described, sort_keys=True, default=str)
        self._environment = hashlib.sha256(self._environment_json.encode()).hexdigest()
        self._tools = JobTools(bus, blobs, runner, self._timing, self.name, self._environment, self._environment_json)
        self._jobs: dict[str, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        keys = f"{pool.kind.name}.>"
        self._control = Mirror(bus, TASK_CONTROL, keys, CONTROL_TTL_SECONDS, on_put=self._on_control, refresh=5.0)

    def stop(self) -> None:
        """Take no new tasks; `run` returns when the running ones have ended or are given back."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until stopped or cancelled."""
        await self._runner.warm()
        running = (self._announce(), self._control.run(), self._heartbeat())
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
            await self._withdraw()

    async def _serve(self) -> None:
        # A task that was cancelled while nobody served it must not start now.
        await self._control.wait()
        consumer = work_consumer(self._pool.kind.name, self._pool.device)
        async with Puller(self._bus, TASKS, consumer, self._pool.concurrency) as puller:
            while True:
                for message in await puller.take(self._pool.concurrency):
                    task = asyncio.create_task(self._handle(message, puller))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)

    async def _handle(self, message: Msg, puller: Puller) -> None:
        try:
            assignment = event_pb2.TaskAssignment.FromString(message.data)
        except DecodeError:
            log.exception("worker.unreadable", subject=message.subject)
            await message.term()
            return
        key = f"{assignment.kind}.{assignment.task_id}"
        if key in self._jobs:
            self._jobs[key].adopt(message)
            await puller.release()
            return
        job = Job(self._pool.kind, assignment, message, self._tools)
        self._jobs[key] = job
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
            await puller.release()

    async def _on_control(self, key: str, _value: bytes) -> None:
        job = self._jobs.get(key)
        if job is not None:
            job.cancel()

    async def _announce(self) -> None:
        announcement = event_pb2.WorkerAnnouncement(
            worker=self.name,
            kind=self._pool.kind.name,
            device=self._pool.device,
            environment=self._environment,
            environment_json=self._environment_json,
            slots=self._pool.concurrency,
        )
        subject = f"$KV.{WORKERS}." + worker_key(self._pool.kind.name, self._pool.device, self.name)
        while True:
            try:
                await self._bus.publish(subject, announcement.SerializeToString())
                await asyncio.sleep(self._timing.worker_ttl / 3)
            except BusUnavailableError:
                await asyncio.sleep(min(0.5, self._timing.worker_ttl / 3))

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._timing.heartbeat)
            for job in list(self._jobs.values()):
                await job.heartbeat()

    async def _withdraw(self) -> None:
        subject = f"$KV.{WORKERS}." + worker_key(self._pool.kind.name, self._pool.device, self.name)
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._bus.nc.publish(subject, b"", headers={"KV-Operation": "DEL"})

    async def _drain(self) -> None:
        """Let running jobs end for a while, then give them back."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._drain_seconds)
        for job in list(self._jobs.values()):
            job.give_back()
        await asyncio.gather(*self._tasks, return_exceptions=True)
