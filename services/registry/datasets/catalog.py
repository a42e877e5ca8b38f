"""Finding datasets, with what is not kept in their rows, and in the state that a caller needs."""

from __future__ import annotations

from collections.abc import Sequence

from lathe.registry.v1.dataset_service_pb2 import (
    DATASET_STATE_AWAITING_CONFIRMATION,
    DATASET_STATE_IMPORT_CANCELLED,
    DATASET_STATE_IMPORTING,
    DATASET_STATE_READY,
    CreateDatasetRequest,
    Dataset,
    DeriveDatasetRequest,
    ListDatasetsRequest,
)

from services.database.pool import Database
from services.operations.backlog import Backlog
from services.platform.errors import LatheError, failed_precondition, not_found
from services.registry.kinds import DATASETS
from services.resources.listing import Entries, ListQuery
from services.resources.store import ResourceStore


class Catalog:
    """Reads datasets."""

    def __init__(self, database: Database, backlog: Backlog) -> None:
        self.store: ResourceStore[Dataset] = ResourceStore(database, DATASETS)
        self._database = database
        self._backlog = backlog

    async def get(self, name: str) -> Dataset:
        """Return a dataset; LatheError NOT_FOUND if there is none."""
        return (await self.with_progress([await self.store.get(name)]))[0]

    async def page(self, request: ListDatasetsRequest, entries: Entries[Dataset]) -> str:
        """Make one page and return the token of the next; a basic view has no reports, files and classes."""
        return await self.store.list(ListQuery.from_request(request), entries, self.with_progress)

    async def first_made(self, request: CreateDatasetRequest | DeriveDatasetRequest) -> Dataset | None:
        """Return what the first request with the same id created; None if this is the first."""
        return await self.store.first_made(request)

    async def ready(self, name: str) -> Dataset:
        """Return a dataset that is complete, without its report, files and classes.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION, reason DATASET_NOT_READY.
        """
        found = (await self.store.get_many([name])).get(name)
        if found is None:
            raise not_found(DATASETS.noun, name)
        if found.state != DATASET_STATE_READY:
            raise not_ready(found)
        return found

    async def with_progress(self, datasets: Sequence[Dataset]) -> list[Dataset]:
        """Set how far the imports are: that changes without a change of the dataset."""
        importing = [dataset.name for dataset in datasets if dataset.state == DATASET_STATE_IMPORTING]
        parts = await self._backlog.progress(importing) if importing else {}
        for dataset in datasets:
            if dataset.state == DATASET_STATE_IMPORTING:
                dataset.progress = parts.get(dataset.name) or 0.0
        return list(datasets)


def not_ready(dataset: Dataset) -> LatheError:
    """Return the error for a dataset that is not complete."""
    if dataset.state == DATASET_STATE_IMPORTING:
        what = "is still being imported. Wait until its state is READY."
    elif dataset.state == DATASET_STATE_AWAITING_CONFIRMATION:
        what = (
            "is waiting for a confirmation, because its class mapping does not fit its files. Read its report, then "
            "call ConfirmDatasetImport to go on, or CancelDatasetImport to give up."
        )
    elif dataset.state == DATASET_STATE_IMPORT_CANCELLED:
        what = "is empty, because its import was cancelled. Create another dataset."
    else:
        what = f"is empty, because its import failed: {dataset.failure.message}"
    return failed_precondition("DATASET_NOT_READY", f"'{dataset.name}' {what}", subject=dataset.name)
