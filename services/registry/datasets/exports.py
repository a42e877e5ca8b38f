"""Exports of datasets: operations that pack a dataset once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lathe.registry.v1.dataset_service_pb2 import (
    CreateDatasetExportRequest,
    Dataset,
    DatasetArchive,
    DatasetExport,
)
from lathe.type.v1.digest_pb2 import Digest
from lathe.type.v1.operation_pb2 import OPERATION_STATE_SUCCEEDED, OperationState

from services.operations.backlog import Backlog
from services.operations.operations import Operations
from services.operations.runner import Standing
from services.process.composition import Platform
from services.registry.blobs import add_uses
from services.registry.datasets.archive import Archives
from services.registry.datasets.catalog import Catalog
from services.registry.kinds import DATASETS, OF_DATASET
from services.resources.filters.fields import word_field
from services.resources.kind import ResourceKind

_URL_LIFETIME = timedelta(hours=6)
KIND = ResourceKind(
    DatasetExport,
    table="dataset_exports",
    collection="exports",
    noun="dataset export",
    columns={"state": lambda export: export.state},
    fields={"state": word_field(OperationState)},
    scope=OF_DATASET,
)


class Exports:
    """Creates exports, and packs them, one at a time in a process."""

    noun = "dataset export"
    at_once = 1

    def __init__(self, platform: Platform, catalog: Catalog, archives: Archives) -> None:
        settings, database = platform.settings, platform.database
        backlog = Backlog(database, "dataset_export_work", "export", timedelta(seconds=settings.ack_wait_seconds))
        self.operations = Operations(
            database, KIND, backlog, self, max_attempts=settings.max_attempts, complete=self._add_url
        )
        self._database = database
        self._content = platform.cas
        self._catalog = catalog
        self._archives = archives

    async def create(self, request: CreateDatasetExportRequest) -> DatasetExport:
        """Create an export; it has SUCCEEDED at once if the dataset was packed before.

        Raises:
            LatheError: NOT_FOUND; FAILED_PRECONDITION, reason DATASET_NOT_READY.
        """
        if first := await self.operations.store.first_made(request):
            return await self.operations.get(first.name)
        dataset = await self._catalog.ready(request.parent)
        export = DatasetExport(display_name=request.dataset_export.display_name, labels=request.dataset_export.labels)
        if digest := await self._archives.find(dataset):
            await self._keep(dataset, digest)
            export.state, export.progress = OPERATION_STATE_SUCCEEDED, 1.0
            export.archive.digest.CopyFrom(digest)
        return await self.operations.create(request, export, parent=request.parent)

    async def do(self, operation: DatasetExport, standing: Standing) -> DatasetExport:
        """Pack the dataset, unless another export has done it meanwhile."""
        dataset = await self._catalog.ready(_dataset_of(operation))
        digest = await self._archives.find(dataset) or await self._archives.pack(dataset, standing)
        await self._keep(dataset, digest)
        return DatasetExport(archive=DatasetArchive(digest=digest))

    async def _keep(self, dataset: Dataset, archive: Digest) -> None:
        """Let those who may read a dataset read its archive."""
        async with self._database.connection() as connection:
            await add_uses(connection, DATASETS.table, dataset.name, dataset.name, [archive])

    async def _add_url(self, export: DatasetExport) -> None:
        export.archive.expire_time.FromDatetime(datetime.now(UTC) + _URL_LIFETIME)
        file_name = f"{_dataset_of(export).removeprefix('datasets/')}.zip"
        export.archive.url = await self._content.presigned_get(export.archive.digest, file_name, _URL_LIFETIME)


def _dataset_of(export: DatasetExport) -> str:
    return export.name.partition("/exports/")[0]
