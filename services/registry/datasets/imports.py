"""Imports in the background of the registry: claimed by one process, kept by a heartbeat, ended by a deletion."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import structlog
from lathe.registry.v1.dataset_service_pb2 import Dataset

from engines.failures import EngineFailure, FailureReason
from services.platform.background import end
from services.registry.datasets.catalog import Catalog
from services.registry.datasets.import_results import ImportResults
from services.registry.datasets.job import ImportJob, Standing
from services.registry.datasets.leases import Claim, Leases

AT_ONCE = 2
# How often a process looks for what others left behind, and how often it says that it goes on.
_LOOK_SECONDS = 2.0
_BEAT_SECONDS = 1.0
_RETRY_AFTER = timedelta(seconds=2)
_MOST_DOUBLINGS = 4

log: Any = structlog.get_logger(__name__)


class Imports:
    """Runs the imports that this process claims, a few at a time."""

    def __init__(
        self, catalog: Catalog, leases: Leases, job: ImportJob, results: ImportResults, max_attempts: int
    ) -> None:
        """Give up an import that was interrupted `max_attempts` times."""
        self._catalog = catalog
        self._leases = leases
        self._job = job
        self._results = results
        self._max_attempts = max_attempts
        self._woken = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Look for imports at once: there is a new one."""
        self._woken.set()

    def stop(self, dataset: str) -> None:
        """End the import of a dataset that was deleted, if it runs here; another process notices by itself."""
        if task := self._running.get(dataset):
            task.cancel()

    async def run(self) -> None:
        """Claim imports and do them, until cancelled; what is unfinished then is another's at once."""
        try:
            while True:
                self._woken.clear()
                while len(self._running) < AT_ONCE and (claim := await self._leases.claim()):
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
        self._running[claim.dataset] = task

        def ended(_: asyncio.Task[None]) -> None:
            if self._running.get(claim.dataset) is task:
                del self._running[claim.dataset]
            self.wake()

        task.add_done_callback(ended)

    async def _work(self, claim: Claim) -> None:
        """Do one import and write its result. Never raises: after any error, the lease passes."""
        standing = Standing()
        try:
            await self._keep(claim, standing)
        except asyncio.CancelledError:
            await self._leases.give_back(claim, counted=False)
            raise
        except Exception:
            log.exception("dataset.import_not_settled", dataset=claim.dataset)

    async def _keep(self, claim: Claim, standing: Standing) -> None:
        job = asyncio.create_task(self._attempt(claim, standing))
        heart = asyncio.create_task(self._beat(claim, standing))
        try:
            await asyncio.wait([job, heart], return_when=asyncio.FIRST_COMPLETED)
            if job.done():
                await job
            else:
                log.info("dataset.import_lost", dataset=claim.dataset)
        finally:
            await end([job, heart])

    async def _beat(self, claim: Claim, standing: Standing) -> None:
        """Renew the lease until it is another's, or could not be renewed for as long as it lasts."""
        clock = asyncio.get_running_loop().time
        renewed = clock()
        while clock() - renewed < self._leases.seconds:
            await asyncio.sleep(_BEAT_SECONDS)
            try:
                if not await self._leases.renew(claim, standing.progress):
                    return
                renewed = clock()
            except Exception as error:
                log.warning("dataset.lease_not_renewed", dataset=claim.dataset, error=str(error))

    async def _attempt(self, claim: Claim, standing: Standing) -> None:
        dataset = await self._catalog.store.find("name", claim.dataset)
        if dataset is None:
            return
        try:
            if claim.attempt > self._max_attempts:
                raise _given_up(self._max_attempts)
            log.info("dataset.import_begins", dataset=dataset.name, attempt=claim.attempt)
            found = await self._job.run(dataset, claim, standing)
        except Exception as error:
            failure = _failure(error, dataset)
            if failure.retryable and claim.attempt < self._max_attempts:
                await self._leases.give_back(claim, _RETRY_AFTER * 2 ** min(claim.attempt, _MOST_DOUBLINGS))
            else:
                await self._results.fail(claim, failure, standing.stage)
        else:
            await self._results.complete(claim, found)


def _failure(error: Exception, dataset: Dataset) -> EngineFailure:
    if isinstance(error, EngineFailure):
        return error
    log.error("dataset.import_fault", dataset=dataset.name, exc_info=error)
    text = f"Lathe itself failed: {type(error).__name__}. The registry's log has the details."
    return EngineFailure(FailureReason.INTERNAL_ERROR, text, retryable=True)


def _given_up(attempts: int) -> EngineFailure:
    return EngineFailure(
        FailureReason.WORKER_LOST,
        f"The process that imported the dataset ended before it was done, {attempts} times.",
        suggested_fix="See in the registry's log what ended it (memory, disk), then create the dataset again.",
    )
