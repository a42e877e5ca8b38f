"""AliasService over gRPC."""

from __future__ import annotations

import grpc
from google.protobuf.empty_pb2 import Empty
from lathe.registry.v1 import alias_service_pb2 as pb
from lathe.registry.v1.alias_service_pb2_grpc import AliasServiceServicer

from services.registry.aliases import Aliases
from services.resources.batches import deleted

Context = grpc.aio.ServicerContext[object, object]


class AliasServicer(AliasServiceServicer):
    """Answers the calls of AliasService."""

    def __init__(self, aliases: Aliases) -> None:
        self._aliases = aliases

    async def CreateAlias(self, request: pb.CreateAliasRequest, context: Context) -> pb.Alias:
        return await self._aliases.create(request)

    async def GetAlias(self, request: pb.GetAliasRequest, context: Context) -> pb.Alias:
        return await self._aliases.get(request.name)

    async def ListAliases(self, request: pb.ListAliasesRequest, context: Context) -> pb.ListAliasesResponse:
        answer = pb.ListAliasesResponse()
        answer.next_page_token = await self._aliases.page(request, answer.aliases)
        return answer

    async def UpdateAlias(self, request: pb.UpdateAliasRequest, context: Context) -> pb.Alias:
        return await self._aliases.update(request)

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Context) -> Empty:
        deletion = self._aliases.delete(request.name, request.etag)
        return await deleted(deletion, allow_missing=request.allow_missing)
