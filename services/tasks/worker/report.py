"""A worker's report on one attempt: events on the bus, kept small and few."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from google.protobuf.message import Message
from lathe.internal.v1 import event_pb2
from lathe.type.v1 import task_pb2

from services.bus.connection import Bus, BusUnavailableError
from services.bus.topology import LOG_EVENT, claimed_subject, event_subject
from services.platform.telemetry import current_traceparent
from services.tasks.state.rows import timestamp
from services.tasks.worker.stages import Stages

PROGRESS_SECONDS = 0.25
_PUBLISH_TRIES = 120
_PUBLISH_RETRY_SECONDS = 0.5


class AttemptReport:
    """Events of one attempt of an assignment, in the name of `worker`."""

    def __init__(self, bus: Bus, assignment: event_pb2.TaskAssignment, attempt: int, worker: str) -> None:
        self._bus = bus
        self._assignment = assignment
        self._attempt = attempt
        self._worker = worker
        self.progress = 0.0
        self.peak_memory_bytes = 0
        self._stages = Stages()
        self._progress: event_pb2.TaskProgressed | None = None
        # The claim says the state already; an attempt that is shorter than this sends no progress at all.
        self._progress_sent = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._sender: asyncio.Task[None] | None = None

    @property
    def stage(self) -> Any:
        """The stage that the attempt is in."""
        return self._stages.stage

    async def begins(self) -> None:
        """Announce the start: not stored, which is quicker; a retry stores it, to follow the failure before it."""
        self._stages.begin()
        started = event_pb2.TaskStarted(device=self._assignment.device)
        if self._attempt > 1:
            await self._say("started", started)
        else:
            subject = claimed_subject(self._assignment.kind, self._assignment.task_id)
            await self._bus.notify(subject, self._envelope("started", started))

    def progressed(self, stage: Any, progress: float, message: str) -> None:
        """Report the progress soon; only the newest report is sent."""
        self._stages.enter(stage, message)
        self.progress = progress
        self._progress = event_pb2.TaskProgressed(stage=stage, progress=progress, message=message)
        if self._timer is None:
            # At most every PROGRESS_SECONDS. A timer costs a tenth of a task, and most short jobs never send any.
            delay = max(PROGRESS_SECONDS - (time.monotonic() - self._progress_sent), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._send_progress)

    async def logged(self, lines: event_pb2.TaskLogged) -> None:
        """Send lines of the log."""
        await self._say(LOG_EVENT, lines)

    async def ended(self, event: str, payload: Message) -> None:
        """Store the last event of the attempt, with what the attempt took; tried until NATS answers.

        Raises:
            MessageTooLargeError: No try will succeed.
            BusUnavailableError: NATS was away all the time.
        """
        subject = event_subject(self._assignment.kind, self._assignment.task_id, event)
        self._stages.end()
        data = self._envelope(event, payload, self._stages.times(), self.peak_memory_bytes)
        msg_id = f"{self._assignment.task_id}:{self._attempt}:{self._worker}:{event}"
        for attempt in range(1, _PUBLISH_TRIES + 1):
            try:
                await self._bus.publish(subject, data, msg_id)
                return
            except BusUnavailableError:
                if attempt == _PUBLISH_TRIES:
                    raise
                await asyncio.sleep(_PUBLISH_RETRY_SECONDS)

    def close(self) -> None:
        """Send no more progress."""
        if self._timer is not None:
            self._timer.cancel()
        if self._sender is not None:
            self._sender.cancel()

    def _send_progress(self) -> None:
        self._timer = None
        progress, self._progress = self._progress, None
        if progress is not None:
            self._progress_sent = time.monotonic()
            self._sender = asyncio.create_task(self._say("progressed", progress))

    async def _say(self, event: str, payload: Message) -> None:
        """Publish an event that the task can do without; the stream stores it, nobody waits for that."""
        subject = event_subject(self._assignment.kind, self._assignment.task_id, event)
        await self._bus.notify(subject, self._envelope(event, payload))

    def _envelope(
        self, event: str, payload: Message, times: Sequence[task_pb2.StageTime] = (), peak_memory_bytes: int = 0
    ) -> bytes:
        envelope: Any = event_pb2.TaskEvent(
            kind=self._assignment.kind,
            task_id=self._assignment.task_id,
            attempt=self._attempt,
            worker=self._worker,
            time=timestamp(),
            traceparent=current_traceparent(),
            stage_times=times,
            peak_memory_bytes=peak_memory_bytes,
        )
        getattr(envelope, event).CopyFrom(payload)
        data: bytes = envelope.SerializeToString()
        return data
