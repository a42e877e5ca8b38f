"""Holds on the resources that tasks read, so that nobody deletes them during the task."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from google.protobuf.duration_pb2 import Duration
from lathe.internal.v1.registry_service_pb2 import (
    HoldDatasetRequest,
    HoldModelVersionRequest,
    RenewHoldsRequest,
    UnholdDatasetRequest,
    UnholdModelVersionRequest,
)
from lathe.internal.v1.registry_service_pb2_grpc import RegistryServiceStub

LASTS = Duration(seconds=3600)
"""How long a hold lasts that nobody renews: that of a task whose creation was interrupted, and which is not there."""


class Holds:
    """Holds versions (`models/…/versions/…`) and datasets (`datasets/…`) of the registry, by name."""

    def __init__(self, registry: grpc.aio.Channel) -> None:
        self._registry = RegistryServiceStub(registry)

    async def hold(self, holder: str, names: Sequence[str]) -> None:
        """Hold all of them for an hour; if one cannot be held, `release` lets go of the others."""
        for name in names:
            if name.startswith("datasets/"):
                await self._registry.HoldDataset(HoldDatasetRequest(name=name, holder=holder, ttl=LASTS))
            else:
                await self._registry.HoldModelVersion(HoldModelVersionRequest(name=name, holder=holder, ttl=LASTS))

    async def renew(self, holders: Sequence[str]) -> None:
        """Let whatever these hold, 1000 of them at most, be held for another hour."""
        await self._registry.RenewHolds(RenewHoldsRequest(holders=holders, ttl=LASTS))

    async def release(self, holder: str, names: Sequence[str]) -> None:
        """End the holds; harmless if there are none."""
        for name in names:
            if name.startswith("datasets/"):
                await self._registry.UnholdDataset(UnholdDatasetRequest(name=name, holder=holder))
            else:
                await self._registry.UnholdModelVersion(UnholdModelVersionRequest(name=name, holder=holder))
