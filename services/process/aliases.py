"""How a service that is not the registry finds out which versions aliases stand for."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import grpc
from lathe.registry.v1.alias_service_pb2 import GetAliasRequest
from lathe.registry.v1.alias_service_pb2_grpc import AliasServiceStub


class RegistryAliases:
    """Asks the registry."""

    def __init__(self, registry: grpc.aio.Channel) -> None:
        self._stub = AliasServiceStub(registry)

    async def look_up(self, aliases: Collection[str]) -> Mapping[str, str]:
        """Return the versions by alias, without those that do not exist; the registry's error if it cannot answer."""
        found = await asyncio.gather(*(self._version(alias) for alias in aliases))
        return {alias: version for alias, version in zip(aliases, found, strict=True) if version}

    async def _version(self, alias: str) -> str:
        try:
            return (await self._stub.GetAlias(GetAliasRequest(name=alias))).model_version
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return ""
            raise
