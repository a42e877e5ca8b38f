"""DatasetService: what comes in and what goes out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from google.protobuf.empty_pb2 import Empty
from lathe.registry.v1 import dataset_service_pb2 as pb
from lathe.registry.v1.dataset_service_pb2_grpc import DatasetServiceServicer

from services.registry.datasets.catalog import Catalog
from services.registry.datasets.exports import Exports
from services.registry.datasets.handlers import Datasets
from services.registry.datasets.items import Items
from services.registry.datasets.preview import Previews
from services.registry.datasets.watch import DatasetWatch
from services.resources.batches import deleted, in_batch
from services.resources.listing import ListQuery

Context = grpc.aio.ServicerContext[object, object]


class DatasetServicer(DatasetServiceServicer):
    """Answers the calls of DatasetService."""

    def __init__(
        self,
        *,
        datasets: Datasets,
        catalog: Catalog,
        items: Items,
        previews: Previews,
        exports: Exports,
        watch: DatasetWatch,
    ) -> None:
        self._datasets = datasets
        self._catalog = catalog
        self._items = items
        self._previews = previews
        self._exports = exports
        self._watch = watch

    async def CreateDataset(self, request: pb.CreateDatasetRequest, context: Context) -> pb.Dataset:
        return await self._datasets.create(request)

    async def ConfirmDatasetImport(self, request: pb.ConfirmDatasetImportRequest, context: Context) -> pb.Dataset:
        return await self._datasets.confirm(request.name)

    async def CancelDatasetImport(self, request: pb.CancelDatasetImportRequest, context: Context) -> pb.Dataset:
        return await self._datasets.cancel_import(request.name)

    async def DeriveDataset(self, request: pb.DeriveDatasetRequest, context: Context) -> pb.Dataset:
        return await self._datasets.derive(request)

    async def GetDataset(self, request: pb.GetDatasetRequest, context: Context) -> pb.Dataset:
        return await self._catalog.get(request.name)

    async def WatchDataset(self, request: pb.WatchDatasetRequest, context: Context) -> AsyncIterator[pb.Dataset]:
        async for dataset in self._watch.follow(request.name):
            yield dataset

    async def ListDatasets(self, request: pb.ListDatasetsRequest, context: Context) -> pb.ListDatasetsResponse:
        answer = pb.ListDatasetsResponse()
        answer.next_page_token = await self._catalog.page(request, answer.datasets)
        return answer

    async def UpdateDataset(self, request: pb.UpdateDatasetRequest, context: Context) -> pb.Dataset:
        return await self._datasets.update(request)

    async def DeleteDataset(self, request: pb.DeleteDatasetRequest, context: Context) -> Empty:
        deletion = self._datasets.delete(request.name, request.etag)
        return await deleted(deletion, allow_missing=request.allow_missing)

    async def BatchDeleteDatasets(
        self, request: pb.BatchDeleteDatasetsRequest, context: Context
    ) -> pb.BatchDeleteDatasetsResponse:
        gone, errors = await in_batch(
            request.names, lambda name: self._datasets.delete(name, ""), allow_missing=request.allow_missing
        )
        return pb.BatchDeleteDatasetsResponse(deleted=gone, errors=errors)

    async def ListDatasetItems(
        self, request: pb.ListDatasetItemsRequest, context: Context
    ) -> pb.ListDatasetItemsResponse:
        return await self._items.page(request)

    async def PreviewDatasetItem(
        self, request: pb.PreviewDatasetItemRequest, context: Context
    ) -> pb.DatasetItemPreview:
        return await self._previews.preview(request.name)

    async def CreateDatasetExport(self, request: pb.CreateDatasetExportRequest, context: Context) -> pb.DatasetExport:
        return await self._exports.create(request)

    async def GetDatasetExport(self, request: pb.GetDatasetExportRequest, context: Context) -> pb.DatasetExport:
        return await self._exports.operations.get(request.name)

    async def ListDatasetExports(
        self, request: pb.ListDatasetExportsRequest, context: Context
    ) -> pb.ListDatasetExportsResponse:
        if request.parent != "datasets/-":
            await self._catalog.get(request.parent)
        answer = pb.ListDatasetExportsResponse()
        answer.next_page_token = await self._exports.operations.page(
            ListQuery.from_request(request), answer.dataset_exports
        )
        return answer

    async def WatchDatasetExport(
        self, request: pb.WatchDatasetExportRequest, context: Context
    ) -> AsyncIterator[pb.DatasetExport]:
        async for export in self._exports.operations.watch(request.name):
            yield export

    async def CancelDatasetExport(self, request: pb.CancelDatasetExportRequest, context: Context) -> pb.DatasetExport:
        return await self._exports.operations.cancel(request.name)

    async def DeleteDatasetExport(self, request: pb.DeleteDatasetExportRequest, context: Context) -> Empty:
        deletion = self._exports.operations.delete(request.name, request.etag)
        return await deleted(deletion, allow_missing=request.allow_missing)
