"""ArtifactService: from messages to handlers and back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from lathe.registry.v1 import artifact_service_pb2 as pb
from lathe.registry.v1.artifact_service_pb2_grpc import ArtifactServiceServicer

from services.registry.artifacts import Artifacts
from services.registry.datasets.items import Items

Context = grpc.aio.ServicerContext[object, object]
_PREFIX = "artifacts/"


class ArtifactServicer(ArtifactServiceServicer):
    """Answers the calls of ArtifactService."""

    def __init__(self, artifacts: Artifacts, items: Items) -> None:
        self._artifacts = artifacts
        self._items = items

    async def CreateUpload(self, request: pb.CreateUploadRequest, context: Context) -> pb.Upload:
        return await self._artifacts.open(request)

    async def GetUpload(self, request: pb.GetUploadRequest, context: Context) -> pb.Upload:
        return await self._artifacts.get(request.name)

    async def ListUploads(self, request: pb.ListUploadsRequest, context: Context) -> pb.ListUploadsResponse:
        answer = pb.ListUploadsResponse()
        answer.next_page_token = await self._artifacts.page(request, answer.uploads)
        return answer

    async def FinalizeUpload(self, request: pb.FinalizeUploadRequest, context: Context) -> pb.Upload:
        return await self._artifacts.finalize(request.name, request.digest)

    async def WatchUpload(self, request: pb.WatchUploadRequest, context: Context) -> AsyncIterator[pb.Upload]:
        async for upload in self._artifacts.watch(request.name):
            yield upload

    async def CancelUpload(self, request: pb.CancelUploadRequest, context: Context) -> pb.Upload:
        return await self._artifacts.cancel(request.name)

    async def GetArtifact(self, request: pb.GetArtifactRequest, context: Context) -> pb.Artifact:
        return await self._artifacts.artifact(request.name.removeprefix(_PREFIX))

    async def GetDownload(self, request: pb.GetDownloadRequest, context: Context) -> pb.Download:
        sha256 = request.name.removeprefix(_PREFIX)
        if request.dataset_item:
            digest = await self._items.content(request.dataset_item, sha256)
        else:
            digest = (await self._artifacts.artifact(sha256)).digest
        return await self._artifacts.download(digest, request.file_name)
