"""StorageService: from messages to handlers and back."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
from google.protobuf.empty_pb2 import Empty
from lathe.registry.v1 import storage_service_pb2 as pb
from lathe.registry.v1.storage_service_pb2_grpc import StorageServiceServicer

from services.registry.garbage.collections import Collections
from services.registry.garbage.usage import Usages
from services.resources.batches import deleted
from services.resources.listing import ListQuery

Context = grpc.aio.ServicerContext[object, object]


class StorageServicer(StorageServiceServicer):
    """Answers the calls of StorageService."""

    def __init__(self, collections: Collections, usages: Usages) -> None:
        self._collections = collections
        self._usages = usages
        self._operations = collections.operations

    async def ListProjectUsages(
        self, request: pb.ListProjectUsagesRequest, context: Context
    ) -> pb.ListProjectUsagesResponse:
        return await self._usages.page(request)

    async def GetProjectUsage(self, request: pb.GetProjectUsageRequest, context: Context) -> pb.ProjectUsage:
        return await self._usages.get(request)

    async def CreateGarbageCollection(
        self, request: pb.CreateGarbageCollectionRequest, context: Context
    ) -> pb.GarbageCollection:
        return await self._collections.create(request)

    async def GetGarbageCollection(
        self, request: pb.GetGarbageCollectionRequest, context: Context
    ) -> pb.GarbageCollection:
        return await self._operations.get(request.name)

    async def ListGarbageCollections(
        self, request: pb.ListGarbageCollectionsRequest, context: Context
    ) -> pb.ListGarbageCollectionsResponse:
        answer = pb.ListGarbageCollectionsResponse()
        answer.next_page_token = await self._operations.page(
            ListQuery.from_request(request), answer.garbage_collections
        )
        return answer

    async def WatchGarbageCollection(
        self, request: pb.WatchGarbageCollectionRequest, context: Context
    ) -> AsyncIterator[pb.GarbageCollection]:
        async for collection in self._operations.watch(request.name):
            yield collection

    async def CancelGarbageCollection(
        self, request: pb.CancelGarbageCollectionRequest, context: Context
    ) -> pb.GarbageCollection:
        return await self._operations.cancel(request.name)

    async def DeleteGarbageCollection(self, request: pb.DeleteGarbageCollectionRequest, context: Context) -> Empty:
        return await deleted(self._operations.delete(request.name, request.etag), allow_missing=request.allow_missing)
