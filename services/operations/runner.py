"""Work in the background of a service: claimed by one process, kept by a heartbeat, ended by a deletion."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

import grpc
import structlog
from lathe.type.v1 import failure_pb2

from engines.failures import EngineFailure, FailureReason
from services.operations.backlog import Backlog, Claim
from services.platform.background import end
from services.platform.errors import LatheError, from_rpc_error, is_transient

__all__ = ["Job", "LostError", "Runner", "Standing"]

# How often a process looks for what others left behind, and how often it says that it goes on.
_LOOK_SECONDS = 2.0
_BEAT_SECONDS = 1.0
_RETRY_AFTER = timedelta(seconds=2)
_MOST_DOUBLINGS = 4

log: Any = structlog.get_logger(__name__)


class LostError(Exception):
    """Another process took the work over, or nobody wants it any more: nothing may be written."""


@dataclass
class Standing:
    """How far work is: its stage, and the part of the whole that is done."""

    stage: failure_pb2.TaskStage.ValueType = failure_pb2.TASK_STAGE_FETCHING_INPUTS
    progress: float = 0.0

    def at(self, stage: failure_pb2.TaskStage.ValueType, progress: float) -> None:
        """Note the stage and the progress, from 0 to 1."""
        self.stage, self.progress = stage, progress


class Job(Protocol):
    """One kind of work."""

    @property
    def noun(self) -> str:
        """What it is called in logs: `dataset import`."""

    @property
    def at_once(self) -> int:
        """Pieces that one process does at the same time."""

    async def run(self, claim: Claim, standing: Standing) -> None:
        """Do the work and write the result, in a transaction that ends the claim.

        Raises:
            EngineFailure, LatheError, grpc.aio.AioRpcError: It cannot be done, or not now.
            LostError: The claim was lost.
        """

    async def fail(self, claim: Claim, failure: EngineFailure, standing: Standing) -> None:
        """Write that the work failed, in a transaction that ends the claim. Raises LostError."""


class Runner:
    """Does the work that this process claims, a few pieces at a time.

    Attributes:
        backlog: The work that goes on, in every process.
    """

    def __init__(self, backlog: Backlog, job: Job, max_attempts: int) -> None:
        """Give up work that was interrupted `max_attempts` times."""
        self.backlog = backlog
        self._job = job
        self._max_attempts = max_attempts
        self._woken = asyncio.Event()
        self._running: dict[Any, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Look for work at once: there is something new."""
        self._woken.set()

    def stop(self, key: object) -> None:
        """End work that nobody wants any more, if it is done here; another process notices by itself."""
        if task := self._running.get(key):
            task.cancel()

    async def run(self) -> None:
        """Claim work and do it, until cancelled; what is unfinished then is another's at once."""
        try:
            while True:
                self._woken.clear()
                while len(self._running) < self._job.at_once and (claim := await self.backlog.claim()):
                    self._begin(claim)
                try:
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._woken.wait()
                except TimeoutError:
                    continue
        except asyncio.CancelledError:
            await end(self._running.values())
            raise

    def _begin(self, claim: Claim) -> None:
        task = asyncio.create_task(self._work(claim))
        self._running[claim.key] = task

        def ended(_: asyncio.Task[None]) -> None:
            if self._running.get(claim.key) is task:
                del self._running[claim.key]
            self.wake()

        task.add_done_callback(ended)

    async def _work(self, claim: Claim) -> None:
        """Do one piece and write its result. Never raises: after any error, the lease passes."""
        standing = Standing()
        try:
            await self._keep(claim, standing)
        except asyncio.CancelledError:
            await self.backlog.give_back(claim, counted=False)
            raise
        except LostError:
            self._lost(claim)
        except Exception:
            log.exception(f"{self._job.noun} not settled", key=str(claim.key))

    async def _keep(self, claim: Claim, standing: Standing) -> None:
        job = asyncio.create_task(self._attempt(claim, standing))
        heart = asyncio.create_task(self._beat(claim, standing))
        try:
            await asyncio.wait([job, heart], return_when=asyncio.FIRST_COMPLETED)
            if job.done():
                await job
            else:
                self._lost(claim)
        finally:
            await end([job, heart])

    async def _beat(self, claim: Claim, standing: Standing) -> None:
        """Renew the lease until it is another's, or could not be renewed for as long as it lasts."""
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while clock() - renewed < self.backlog.seconds:
            await asyncio.sleep(_BEAT_SECONDS)
            try:
                if not await self.backlog.renew(claim, standing.progress):
                    return
                renewed = clock()
            except Exception as error:
                log.warning(f"{self._job.noun} not renewed", key=str(claim.key), error=str(error))

    async def _attempt(self, claim: Claim, standing: Standing) -> None:
        try:
            if claim.attempt > self._max_attempts:
                raise _given_up(self._job.noun, self._max_attempts)
            log.info(f"{self._job.noun} begins", key=str(claim.key), attempt=claim.attempt)
            await self._job.run(claim, standing)
        except LostError:
            raise
        except Exception as error:
            failure = self._failure(error, claim)
            if failure.retryable and claim.attempt < self._max_attempts:
                await self.backlog.give_back(claim, _RETRY_AFTER * 2 ** min(claim.attempt, _MOST_DOUBLINGS))
            else:
                await self._job.fail(claim, failure, standing)
                log.info(f"{self._job.noun} failed", key=str(claim.key), reason=failure.reason.value)

    def _lost(self, claim: Claim) -> None:
        log.info(f"{self._job.noun} lost", key=str(claim.key))

    def _failure(self, error: Exception, claim: Claim) -> EngineFailure:
        if isinstance(error, EngineFailure):
            return error
        if isinstance(error, grpc.aio.AioRpcError):
            error = from_rpc_error(error)
        if isinstance(error, LatheError):
            if is_transient(error.code):
                return EngineFailure(FailureReason.INFRASTRUCTURE, error.message, retryable=True)
            return EngineFailure(FailureReason.INVALID_SPEC, error.message, evidence=error.reason)
        log.error(f"{self._job.noun} at fault", key=str(claim.key), exc_info=error)
        text = f"Lathe itself failed: {type(error).__name__}. The service's log has the details."
        return EngineFailure(FailureReason.INTERNAL_ERROR, text, retryable=True)


def _given_up(noun: str, attempts: int) -> EngineFailure:
    return EngineFailure(
        FailureReason.WORKER_LOST,
        f"The process that did the {noun} ended before it was done, {attempts} times.",
        suggested_fix="See in the service's log what ended it (memory, disk), then start again.",
    )
