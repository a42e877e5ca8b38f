"""InfoService over gRPC."""

from __future__ import annotations

import grpc
from lathe.registry.v1 import info_service_pb2 as pb
from lathe.registry.v1.info_service_pb2_grpc import InfoServiceServicer

from services.registry.info import Info

Context = grpc.aio.ServicerContext[object, object]


class InfoServicer(InfoServiceServicer):
    """Answers the calls of InfoService."""

    def __init__(self, info: Info) -> None:
        self._info = info

    async def GetInfo(self, request: pb.GetInfoRequest, context: Context) -> pb.Info:
        return await self._info.get()

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Context) -> pb.Identity:
        return self._info.who()
