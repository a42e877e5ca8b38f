"""The end of an import: its dataset changes and the import is removed, in one transaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from lathe.registry.v1.dataset_service_pb2 import (
    DATASET_STATE_AWAITING_CONFIRMATION,
    DATASET_STATE_IMPORT_FAILED,
    DATASET_STATE_READY,
    Dataset,
    DatasetState,
)
from lathe.type.v1 import failure_pb2

from engines.failures import EngineFailure, FailureReason
from services.database.pool import Connection
from services.operations.backlog import Backlog, Claim
from services.operations.runner import LostError
from services.platform.errors import LatheError
from services.platform.failures import failure_message
from services.platform.words import word
from services.registry.blobs import add_uses
from services.registry.datasets import rules
from services.registry.datasets.catalog import Catalog
from services.registry.datasets.job import Found
from services.registry.kinds import DATASETS

_MAX_TEXT = 4000
_LIMITS = {
    FailureReason.OUT_OF_MEMORY: "Split the data into several datasets.",
    FailureReason.TIMEOUT: "Split the data into several datasets.",
}
_SET_BY_IMPORT = ("report", "classes", "attributes", "item_count", "size_bytes", "index")

log: Any = structlog.get_logger(__name__)


class ImportResults:
    """Writes the results of imports that this process still holds."""

    def __init__(self, catalog: Catalog, backlog: Backlog) -> None:
        self._catalog = catalog
        self._backlog = backlog

    async def complete(self, claim: Claim, found: Found) -> None:
        """Make a dataset READY, or let it wait for a confirmation. Raises LostError."""

        def change(dataset: Dataset) -> None:
            for field in _SET_BY_IMPORT:
                dataset.ClearField(field)  # type: ignore[arg-type]  # all of them are fields
            dataset.state = DATASET_STATE_READY if found.complete else DATASET_STATE_AWAITING_CONFIRMATION
            if found.complete:
                dataset.progress = 1.0
                dataset.MergeFrom(found.summary)
            else:
                dataset.report.CopyFrom(found.summary.report)
            rules.fit(dataset)

        await self._settle(claim, change)

    async def fail(self, claim: Claim, failure: EngineFailure, stage: failure_pb2.TaskStage.ValueType) -> None:
        """Make a dataset IMPORT_FAILED. Raises LostError."""
        told = failure_message(failure, stage, _MAX_TEXT, _LIMITS)

        def change(dataset: Dataset) -> None:
            dataset.state = DATASET_STATE_IMPORT_FAILED
            dataset.failure.CopyFrom(told)
            rules.fit(dataset)

        await self._settle(claim, change)

    async def _settle(self, claim: Claim, change: Callable[[Dataset], None]) -> None:
        async def end(connection: Connection, _before: Dataset, after: Dataset) -> None:
            if not await self._backlog.end(connection, claim):
                raise LostError
            if after.HasField("index"):
                await add_uses(connection, DATASETS.table, after.name, after.name, [after.index])
            log.info("dataset.import_ended", dataset=after.name, state=word(DatasetState, after.state))

        try:
            await self._catalog.store.modify(claim.key, change, on_change=end)
        except LatheError as error:
            raise LostError(error.message) from error
