"""A task in a worker's hands: one delivery of its message, from the claim to the acknowledgement."""

from __future__ import annotations

import asyncio
import contextlib
import traceback
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import nats.errors
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.internal.v1 import event_pb2
from lathe.type.v1.digest_pb2 import Digest
from nats.aio.msg import Msg

from engines.failures import EngineFailure, FailureReason
from services.bus.connection import Bus, MessageTooLargeError
from services.bus.topology import Timing
from services.platform.failures import failure_message
from services.tasks.kind import WorkKind, unpack
from services.tasks.state.tasklog import AttemptLog
from services.tasks.worker.attempt import Attempt
from services.tasks.worker.blobs import Blobs
from services.tasks.worker.metrics import RUNNING
from services.tasks.worker.readers import readers
from services.tasks.worker.report import AttemptReport
from services.tasks.worker.runner import JobRunner, Slot
from services.tasks.worker.timings import Timings

log = structlog.get_logger(__name__)

MAX_RETRY_DELAY_SECONDS = 30.0
# Characters of each text of a failure: what a tool said at length is in the log, and the event must fit the bus.
MAX_TEXT = 16_384
_ACK_TRIES = 3
_ACK_TIMEOUT_SECONDS = 1.0
_LIMITS = {
    FailureReason.OUT_OF_MEMORY: "Raise the memory limit of the task, or use a smaller batch or input shape.",
    FailureReason.TIMEOUT: "Raise the time limit of the task, or correct the loop that the evidence shows.",
}


@dataclass(frozen=True, slots=True)
class JobTools:
    """What every job of a worker uses."""

    bus: Bus
    blobs: Blobs
    timings: Timings
    runner: JobRunner
    timing: Timing
    worker: str
    environment: str
    environment_json: str


class _Wish(Enum):
    CANCEL = auto()
    GIVE_BACK = auto()


class Job:
    """One delivery. `run` returns when the message is settled."""

    def __init__(self, kind: WorkKind, assignment: event_pb2.TaskAssignment, message: Msg, tools: JobTools) -> None:
        self._kind = kind
        self.assignment = assignment
        self._message = message
        self._tools = tools
        self.attempt = assignment.attempt_base + message.metadata.num_delivered
        # What its workers gave back does not count towards the most attempts that it has.
        self._counted = self.attempt - assignment.attempts_returned
        self._report = AttemptReport(tools.bus, assignment, self.attempt, tools.worker)
        self._log = AttemptLog(self._report.logged)
        self._work: asyncio.Task[AnyMessage] | None = None
        self._wish: _Wish | None = None
        self._slot: Slot | None = None

    @property
    def stage(self) -> Any:
        """The stage that it is in."""
        return self._report.stage

    @property
    def progress(self) -> float:
        """The part of the work that is done."""
        return self._report.progress

    @property
    def memory_bytes(self) -> int:
        """What its processes hold now; 0 before and after they run."""
        return self._slot.memory_bytes if self._slot is not None else 0

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
        await self._report.begins()
        RUNNING.begin(self)
        try:
            if self._wish is not None:  # asked to stop before there was anything to stop
                await self._stopped()
                return
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
                await self._succeeded(outcome)
        finally:
            RUNNING.end(self)
            self._report.close()
            self._log.discard()

    async def _attempt(self) -> AnyMessage:
        slot = self._slot = await self._tools.runner.acquire(self._kind.entry)
        blobs, timings = self._tools.blobs, self._tools.timings
        attempt = Attempt(self._kind, self.assignment, slot, blobs, self._report.progressed, timings=timings)
        try:
            return await attempt.run(self._log.write)
        finally:
            self._slot, self._report.peak_memory_bytes = None, slot.peak_memory_bytes
            # Shielded, so that a cancelled job leaves neither child nor folder behind.
            await asyncio.shield(slot.discard())
            await self._tools.runner.warm()

    async def _succeeded(self, outcome: AnyMessage) -> None:
        done = event_pb2.TaskSucceeded(
            outcome=outcome,
            environment=self._tools.environment,
            environment_json=self._tools.environment_json,
            log=await self._store_log(),
        )
        try:
            await self._finish("succeeded", done)
        except MessageTooLargeError as error:
            text = "The outcome is larger than the message bus takes, so it cannot be reported."
            fix = "Let the operator raise max_payload of NATS, or ask for less in one task."
            told = EngineFailure(FailureReason.INTERNAL_ERROR, text, evidence=str(error), suggested_fix=fix)
            await self._failed(told)
            return
        log.info("task.succeeded", attempt=self.attempt)

    async def _stopped(self) -> None:
        if self._wish is _Wish.GIVE_BACK:
            await self._return()
        elif self._wish is _Wish.CANCEL:
            await self._finish("cancelled", event_pb2.TaskCancelled(log=await self._store_log()))
            log.info("task.cancelled", attempt=self.attempt)
        else:
            raise asyncio.CancelledError

    async def _return(self) -> None:
        """Give the task back, so that this attempt does not count.

        The message goes first: it would keep out the new one, whose deliveries are counted from one again. Should this
        worker die in between, the sweeper finds a task without message or worker, and that counts as a lost attempt.
        """
        returned = event_pb2.TaskReturned(log=await self._store_log())
        if await self._acknowledge():
            await self._report.ended("returned", returned)
        log.info("task.given_back", attempt=self.attempt)

    async def _failed(self, failure: EngineFailure) -> None:
        if failure.reason is FailureReason.TOOLCHAIN_UNAVAILABLE:
            await self._say_who_reads(failure)
        told = failure_message(failure, self._report.stage, MAX_TEXT, _LIMITS)
        log.info("task.failed", attempt=self.attempt, reason=failure.reason.value, retryable=failure.retryable)
        event = event_pb2.TaskFailed(failure=told, log=await self._store_log())
        again = failure.retryable and self._counted < self._tools.timing.max_deliver
        await self._finish("failed", event, again=again)

    async def _say_who_reads(self, failure: EngineFailure) -> None:
        """Add to a failure for a source that is not read here which live workers read it: one of them may take it."""
        work = self._kind.work_type()
        unpack(self.assignment.work, work)
        wanted = self._kind.source_format(work)
        if not wanted or wanted in self._kind.formats:
            return
        able = await readers(self._tools.bus, self._tools.timing, self.assignment, wanted)
        failure.retryable = bool(able)
        found = f"Live workers that read {wanted}: {', '.join(able)}." if able else f"No live worker reads {wanted}."
        failure.suggested_fix = f"{failure.suggested_fix} {found}".strip()

    async def _store_log(self) -> Digest | None:
        stored = await self._log.close()
        if stored is None:
            return None
        try:
            return await self._tools.blobs.put_file(stored)
        except Exception as error:
            # The outcome matters more than its log, which is still on the bus for a month.
            log.warning("task.log_not_stored", error=str(error) or type(error).__name__)
            return None

    async def _finish(self, event: str, payload: Message, *, again: bool = False) -> None:
        """Store the last event of the attempt, then settle the message."""
        await self._report.ended(event, payload)
        if again:
            delay = min(self._tools.timing.retry_delay * 2 ** (self._counted - 1), MAX_RETRY_DELAY_SECONDS)
            await self._message.nak(delay=delay)
        elif not await self._acknowledge():
            log.info("task.acknowledgement_unanswered", attempt=self.attempt)

    async def _acknowledge(self) -> bool:
        for _ in range(_ACK_TRIES):
            try:
                await self._tools.bus.nc.request(self._message.reply, b"+ACK", timeout=_ACK_TIMEOUT_SECONDS)
                return True
            except nats.errors.Error:
                # NATS is away, or the message is gone already: then there is nobody to answer.
                continue
        return False

    async def heartbeat(self) -> None:
        """Tell NATS that the message is still being worked on."""
        with contextlib.suppress(nats.errors.Error, OSError):
            await self._message.in_progress()
