"""How a service that is not the registry finds out what its callers may do."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from lathe.internal.v1.registry_service_pb2 import ReadGrantsRequest
from lathe.internal.v1.registry_service_pb2_grpc import RegistryServiceStub


class RegistryGrants:
    """Asks the registry."""

    def __init__(self, registry: grpc.aio.Channel) -> None:
        self._stub = RegistryServiceStub(registry)

    async def fetch(self, user: str, groups: frozenset[str]) -> Mapping[str, int]:
        """Return the user's roles by project; the registry's error if it cannot answer."""
        answer = await self._stub.ReadGrants(ReadGrantsRequest(user=user, groups=sorted(groups)))
        return answer.roles
