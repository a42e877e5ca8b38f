"""ModelService over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from google.protobuf.empty_pb2 import Empty
from lathe.registry.v1 import model_service_pb2 as pb
from lathe.registry.v1.model_service_pb2_grpc import ModelServiceServicer
from lathe.type.v1.view_pb2 import VIEW_FULL

from services.registry.creation import Creation, require_short
from services.registry.models import Models
from services.registry.version_imports import VersionImports
from services.registry.versions import Versions
from services.resources.batches import deleted
from services.resources.listing import ListQuery

Context = grpc.aio.ServicerContext[object, object]


class ModelServicer(ModelServiceServicer):
    """Answers the calls of ModelService."""

    def __init__(self, models: Models, versions: Versions, creation: Creation, imports: VersionImports) -> None:
        self._models = models
        self._versions = versions
        self._creation = creation
        self._imports = imports

    async def CreateModel(self, request: pb.CreateModelRequest, context: Context) -> pb.Model:
        return await self._models.create(request)

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.Model:
        return await self._models.get(request.name)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        answer = pb.ListModelsResponse()
        answer.next_page_token = await self._models.page(request, answer.models)
        return answer

    async def UpdateModel(self, request: pb.UpdateModelRequest, context: Context) -> pb.Model:
        return await self._models.update(request)

    async def DeleteModel(self, request: pb.DeleteModelRequest, context: Context) -> Empty:
        deletion = self._models.delete(request.name, request.etag, force=request.force)
        return await deleted(deletion, allow_missing=request.allow_missing)

    async def CreateModelVersion(self, request: pb.CreateModelVersionRequest, context: Context) -> pb.ModelVersion:
        require_short(request.model_version.files)
        return await self._creation.create(request)

    async def CreateModelVersionImport(
        self, request: pb.CreateModelVersionImportRequest, context: Context
    ) -> pb.ModelVersionImport:
        return await self._imports.create(request)

    async def GetModelVersionImport(
        self, request: pb.GetModelVersionImportRequest, context: Context
    ) -> pb.ModelVersionImport:
        return await self._imports.operations.get(request.name)

    async def ListModelVersionImports(
        self, request: pb.ListModelVersionImportsRequest, context: Context
    ) -> pb.ListModelVersionImportsResponse:
        if not request.parent.endswith("/-"):
            await self._models.get(request.parent)
        answer = pb.ListModelVersionImportsResponse()
        answer.next_page_token = await self._imports.operations.page(
            ListQuery.from_request(request), answer.model_version_imports
        )
        return answer

    async def WatchModelVersionImport(
        self, request: pb.WatchModelVersionImportRequest, context: Context
    ) -> AsyncIterator[pb.ModelVersionImport]:
        async for each in self._imports.operations.watch(request.name):
            yield each

    async def CancelModelVersionImport(
        self, request: pb.CancelModelVersionImportRequest, context: Context
    ) -> pb.ModelVersionImport:
        return await self._imports.operations.cancel(request.name)

    async def DeleteModelVersionImport(self, request: pb.DeleteModelVersionImportRequest, context: Context) -> Empty:
        deletion = self._imports.operations.delete(request.name, request.etag)
        return await deleted(deletion, allow_missing=request.allow_missing)

    async def GetModelVersion(self, request: pb.GetModelVersionRequest, context: Context) -> pb.ModelVersion:
        return await self._versions.get(request.name)

    async def BatchGetModelVersions(
        self, request: pb.BatchGetModelVersionsRequest, context: Context
    ) -> pb.BatchGetModelVersionsResponse:
        versions = await self._versions.get_many(request.names, full=request.view == VIEW_FULL)
        return pb.BatchGetModelVersionsResponse(model_versions=versions)

    async def ListModelVersions(
        self, request: pb.ListModelVersionsRequest, context: Context
    ) -> pb.ListModelVersionsResponse:
        answer = pb.ListModelVersionsResponse()
        answer.next_page_token = await self._versions.page(request, answer.model_versions)
        return answer

    async def UpdateModelVersion(self, request: pb.UpdateModelVersionRequest, context: Context) -> pb.ModelVersion:
        return await self._versions.update(request)

    async def DeleteModelVersion(self, request: pb.DeleteModelVersionRequest, context: Context) -> Empty:
        deletion = self._versions.delete(request.name, request.etag)
        return await deleted(deletion, allow_missing=request.allow_missing)

    async def BatchDeleteModelVersions(
        self, request: pb.BatchDeleteModelVersionsRequest, context: Context
    ) -> pb.BatchDeleteModelVersionsResponse:
        gone, errors = await self._versions.delete_many(request.names, allow_missing=request.allow_missing)
        return pb.BatchDeleteModelVersionsResponse(deleted=gone, errors=errors)

    async def DescribeModelVersion(
        self, request: pb.DescribeModelVersionRequest, context: Context
    ) -> pb.ModelDescription:
        return await self._versions.describe(request.name)

    async def DiffModelVersions(self, request: pb.DiffModelVersionsRequest, context: Context) -> pb.ModelDiff:
        return await self._versions.compare(request.before, request.after)

    async def GetLineage(self, request: pb.GetLineageRequest, context: Context) -> pb.LineageGraph:
        return await self._versions.lineage(request.name, request.max_depth)
