"""A task in a worker's hands: one delivery of its message, from the claim to the acknowledgement."""

from __future__ import annotations

import asyncio
import contextlib
import time
import traceback
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import nats.errors
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.type.v1 import event_pb2, failure_pb2
from lathe.type.v1.digest_pb2 import Digest
from nats.aio.msg import Msg

from engines.failures import EngineFailure, FailureReason
from services.common.bus.connection import Bus, BusUnavailableError
from services.common.bus.topology import LOG_EVENT, Timing, claimed_subject, event_subject
from services.common.tasks.attempt import Attempt, Blobs
from services.common.tasks.kind import WorkKind
from services.common.tasks.rows import timestamp
from services.common.tasks.runner import Runner
from services.common.tasks.tasklog import AttemptLog
from services.common.telemetry import current_traceparent

log = structlog.get_logger(__name__)

PROGRESS_SECONDS = 0.25
MAX_RETRY_DELAY_SECONDS = 30.0
_PUBLISH_TRIES = 120
_PUBLISH_RETRY_SECONDS = 0.5
_ACK_TRIES = 3
_ACK_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class JobTools:
    """What every job of a worker uses."""

    bus: Bus
    blobs: Blobs
    runner: Runner
    timing: Timing
    worker: str
    environment: str


class _Wish(Enum):
    CANCEL = auto()
    GIVE_BACK = auto()


class Job:
    """One delivery. `run` returns when the message is settled."""

    def __init__(self, kind: WorkKind, assignment: event_pb2.TaskAssignment, message: Msg, tools: JobTools) -> None:
        self._kind = kind
        self._assignment = assignment
        self._message = message
        self._tools = tools
        self.attempt = assignment.attempt_base + message.metadata.num_delivered
        self._log = AttemptLog(self._publish_log)
        self._stage: Any = failure_pb2.FETCHING_INPUTS
        self._work: asyncio.Task[AnyMessage] | None = None
        self._wish: _Wish | None = None
        self._progress: event_pb2.TaskProgressed | None = None
        # The claim itself says where it stands; what ends sooner than this sends no progress at all.
        self._progress_sent = time.monotonic()
        self._progress_sender: asyncio.Task[None] | None = None

    def adopt(self, message: Msg) -> None:
        """Take a repeated delivery of the same task for this one: NATS forgot, in a restart, who holds it."""
        self._message = message

    def cancel(self) -> None:
        """Stop: the task is cancelled."""
        self._stop(_Wish.CANCEL)

    def give_back(self) -> None:
        """Stop and return the task to the queue: this worker ends."""
        self._stop(_Wish.GIVE_BACK)

    def _stop(self, wish: _Wish) -> None:
        if self._wish is None:
            self._wish = wish
            if self._work is not None:
                self._work.cancel()

    async def run(self) -> None:
        """Do the work and report."""
        if self._wish is _Wish.CANCEL:
            await self._finish("cancelled", event_pb2.TaskCancelled())
            return
        log.info("task.claimed", attempt=self.attempt)
        await self._claim()
        heartbeat = asyncio.create_task(self._heartbeat())
        try:
            self._work = asyncio.create_task(self._attempt())
            try:
                outcome = await self._work
            except asyncio.CancelledError:
                await self._stopped()
            except EngineFailure as failure:
                await self._failed(failure)
            except TimeoutError:
                await self._failed(EngineFailure(FailureReason.TIMEOUT, "The task went over its time limit."))
            except Exception as error:
                self._log.write(traceback.format_exc())
                log.exception("task.fault", attempt=self.attempt)
                text = f"Lathe itself failed: {type(error).__name__}. The task's log has the details."
                await self._failed(EngineFailure(FailureReason.INTERNAL_ERROR, text))
            else:
                stored = await self._store_log()
                done = event_pb2.TaskSucceeded(outcome=outcome, environment=self._tools.environment, log=stored)
                await self._finish("succeeded", done)
                log.info("task.succeeded", attempt=self.attempt)
        finally:
            heartbeat.cancel()
            if self._progress_sender is not None:
                self._progress_sender.cancel()

    async def _claim(self) -> None:
        """Say that the work begins: unstored, which is quicker; of a retry stored, behind the failure before it."""
        started = event_pb2.TaskStarted(device=self._assignment.device)
        if self.attempt > 1:
            await self._say("started", started)
        else:
            subject = claimed_subject(self._assignment.kind, self._assignment.task_id)
            await self._tools.bus.notify(subject, self._envelope("started", started))

    async def _attempt(self) -> AnyMessage:
        slot = await self._tools.runner.acquire()
        attempt = Attempt(self._kind, self._assignment, slot, self._tools.blobs, self._report)
        try:
            return await attempt.run(self._log.write)
        finally:
            # Shielded, so that a cancelled job leaves neither child nor folder behind.
            await asyncio.shield(slot.discard())
            await self._tools.runner.warm()

    async def _stopped(self) -> None:
        if self._wish is _Wish.GIVE_BACK:
            await self._log.close()
            await self._message.nak()
            log.info("task.given_back", attempt=self.attempt)
        elif self._wish is _Wish.CANCEL:
            await self._finish("cancelled", event_pb2.TaskCancelled(log=await self._store_log()))
            log.info("task.cancelled", attempt=self.attempt)
        else:
            raise asyncio.CancelledError

    async def _failed(self, failure: EngineFailure) -> None:
        told = failure_pb2.Failure(
            stage=self._stage,
            reason=failure_pb2.FailureReason.Value(failure.reason.value),
            message=failure.message,
            node=failure.node,
            operator=failure.operator,
            evidence=failure.evidence,
            suggested_fix=failure.suggested_fix,
            retryable=failure.retryable,
        )
        log.info("task.failed", attempt=self.attempt, reason=failure.reason.value, retryable=failure.retryable)
        event = event_pb2.TaskFailed(failure=told, log=await self._store_log())
        again = failure.retryable and self.attempt < self._tools.timing.max_deliver
        await self._finish("failed", event, again=again)

    async def _store_log(self) -> Digest | None:
        stored = await self._log.close()
        if not stored:
            return None
        try:
            return await self._tools.blobs.put_bytes(stored)
        except Exception as error:
            # The outcome matters more than its log, which is still on the bus for a month.
            log.warning("task.log_not_stored", error=str(error) or type(error).__name__)
            return None

    async def _finish(self, event: str, payload: Message, *, again: bool = False) -> None:
        """Store the last event of the attempt, tried until NATS answers, then settle the message."""
        subject = event_subject(self._assignment.kind, self._assignment.task_id, event)
        data = self._envelope(event, payload)
        msg_id = f"{self._assignment.task_id}:{self.attempt}:{self._tools.worker}:{event}"
        for attempt in range(1, _PUBLISH_TRIES + 1):
            try:
                await self._tools.bus.publish(subject, data, msg_id)
                break
            except BusUnavailableError:
                if attempt == _PUBLISH_TRIES:
                    raise
                await asyncio.sleep(_PUBLISH_RETRY_SECONDS)
        await self._settle(again=again)

    async def _settle(self, *, again: bool) -> None:
        if again:
            delay = min(self._tools.timing.retry_delay * 2 ** (self.attempt - 1), MAX_RETRY_DELAY_SECONDS)
            await self._message.nak(delay=delay)
            return
        for _ in range(_ACK_TRIES):
            try:
                await self._tools.bus.nc.request(self._message.reply, b"+ACK", timeout=_ACK_TIMEOUT_SECONDS)
                return
            except nats.errors.Error:
                # NATS is away, or the message is gone already: then there is nobody to answer.
                continue
        log.info("task.acknowledgement_unanswered", attempt=self.attempt)

    def _report(self, stage: Any, progress: float, message: str) -> None:
        self._stage = stage
        self._progress = event_pb2.TaskProgressed(stage=stage, progress=progress, message=message)
        if self._progress_sender is None or self._progress_sender.done():
            self._progress_sender = asyncio.create_task(self._send_progress())

    async def _send_progress(self) -> None:
        """Send the newest progress, at most every PROGRESS_SECONDS."""
        await asyncio.sleep(max(PROGRESS_SECONDS - (time.monotonic() - self._progress_sent), 0.0))
        progress, self._progress = self._progress, None
        if progress is not None:
            self._progress_sent = time.monotonic()
            await self._say("progressed", progress)

    async def _publish_log(self, lines: event_pb2.TaskLogged) -> None:
        await self._say(LOG_EVENT, lines)

    async def _say(self, event: str, payload: Message) -> None:
        """Publish an event that the task can do without; the stream stores it, nobody waits for that."""
        subject = event_subject(self._assignment.kind, self._assignment.task_id, event)
        await self._tools.bus.notify(subject, self._envelope(event, payload))

    def _envelope(self, event: str, payload: Message) -> bytes:
        envelope: Any = event_pb2.TaskEvent(
            kind=self._assignment.kind,
            task_id=self._assignment.task_id,
            attempt=self.attempt,
            worker=self._tools.worker,
            time=timestamp(),
            traceparent=current_traceparent(),
        )
        getattr(envelope, event).CopyFrom(payload)
        data: bytes = envelope.SerializeToString()
        return data

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._tools.timing.heartbeat)
            with contextlib.suppress(nats.errors.Error, OSError):
                await self._message.in_progress()
