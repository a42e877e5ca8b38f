"""ArchitectureService: what comes in and what goes out."""

from __future__ import annotations

import grpc
from google.protobuf.empty_pb2 import Empty
from lathe.registry.v1 import architecture_service_pb2 as pb
from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceServicer

from services.registry.architectures import Architectures
from services.resources.batches import deleted

Context = grpc.aio.ServicerContext[object, object]


class ArchitectureServicer(ArchitectureServiceServicer):
    """Answers the calls of ArchitectureService."""

    def __init__(self, architectures: Architectures) -> None:
        self._architectures = architectures

    async def CreateArchitecture(self, request: pb.CreateArchitectureRequest, context: Context) -> pb.Architecture:
        return await self._architectures.create(request)

    async def GetArchitecture(self, request: pb.GetArchitectureRequest, context: Context) -> pb.Architecture:
        return await self._architectures.get(request.name)

    async def ListArchitectures(
        self, request: pb.ListArchitecturesRequest, context: Context
    ) -> pb.ListArchitecturesResponse:
        answer = pb.ListArchitecturesResponse()
        answer.next_page_token = await self._architectures.page(request, answer.architectures)
        return answer

    async def UpdateArchitecture(self, request: pb.UpdateArchitectureRequest, context: Context) -> pb.Architecture:
        return await self._architectures.update(request)

    async def DeleteArchitecture(self, request: pb.DeleteArchitectureRequest, context: Context) -> Empty:
        deletion = self._architectures.delete(request.name, request.etag)
        return await deleted(deletion, allow_missing=request.allow_missing)
