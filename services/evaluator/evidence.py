"""Which evaluations releases rest on, as the registry knows."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

import grpc
from lathe.internal.v1.registry_service_pb2 import ReadReleaseEvidenceRequest
from lathe.internal.v1.registry_service_pb2_grpc import RegistryServiceStub

from services.platform.errors import from_rpc_error

_AT_ONCE = 10_000
_SECONDS = 60.0


class Evidence:
    """Asks the registry."""

    def __init__(self, registry: grpc.aio.Channel) -> None:
        self._stub = RegistryServiceStub(registry)

    async def among(self, evaluations: Collection[str]) -> set[str]:
        """Return those of some evaluations that a release names; LatheError if the registry does not answer."""
        names, found = iter(evaluations), set[str]()
        try:
            while part := list(islice(names, _AT_ONCE)):
                request = ReadReleaseEvidenceRequest(evaluation_tasks=part)
                found |= {*(await self._stub.ReadReleaseEvidence(request, timeout=_SECONDS)).evaluation_tasks}
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        return found
