"""Imports of datasets, as work in the background."""

from __future__ import annotations

from datetime import timedelta

from engines.failures import EngineFailure
from services.database.pool import Database
from services.operations.backlog import Backlog, Claim
from services.operations.runner import Standing
from services.registry.datasets.catalog import Catalog
from services.registry.datasets.import_results import ImportResults
from services.registry.datasets.job import ImportJob

AT_ONCE = 2


def import_backlog(database: Database, lease: timedelta) -> Backlog:
    """Return the imports that go on; each row has `accept_mismatches` and `indexes`, a FileList."""
    return Backlog(database, "dataset_imports", "dataset", lease)


class Imports:
    """Does imports that were claimed."""

    noun = "dataset import"

    def __init__(self, catalog: Catalog, job: ImportJob, results: ImportResults) -> None:
        self._catalog = catalog
        self._job = job
        self._results = results

    @property
    def at_once(self) -> int:
        """Imports at the same time."""
        return AT_ONCE

    async def run(self, claim: Claim, standing: Standing) -> None:
        """Import a dataset, unless it is gone."""
        if dataset := await self._catalog.store.find("name", claim.key):
            await self._results.complete(claim, await self._job.run(dataset, claim, standing))

    async def fail(self, claim: Claim, failure: EngineFailure, standing: Standing) -> None:
        """Make the dataset IMPORT_FAILED."""
        await self._results.fail(claim, failure, standing.stage)
