"""Holds on the resources that tasks read, so that nobody deletes them during the task."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import grpc
from lathe.internal.v1.registry_service_pb2 import (
    HoldDatasetRequest,
    HoldModelVersionRequest,
    UnholdDatasetRequest,
    UnholdModelVersionRequest,
)
from lathe.internal.v1.registry_service_pb2_grpc import RegistryServiceStub


class Holds:
    """Holds versions (`models/…/versions/…`) and datasets (`datasets/…`) of the registry, by name."""

    def __init__(self, registry: grpc.aio.Channel) -> None:
        self._registry = RegistryServiceStub(registry)

    async def hold(self, holder: str, names: Sequence[str]) -> None:
        """Hold all of them, or none: if one cannot be held, the others are released."""
        held: list[str] = []
        try:
            for name in names:
                held.append(name)  # before the call: its answer may be lost
                if name.startswith("datasets/"):
                    await self._registry.HoldDataset(HoldDatasetRequest(name=name, holder=holder))
                else:
                    await self._registry.HoldModelVersion(HoldModelVersionRequest(name=name, holder=holder))
        except BaseException:
            with contextlib.suppress(grpc.aio.AioRpcError):  # a hold that stays ends by itself
                await self.release(holder, held)
            raise

    async def release(self, holder: str, names: Sequence[str]) -> None:
        """End the holds; harmless if there are none."""
        for name in names:
            if name.startswith("datasets/"):
                await self._registry.UnholdDataset(UnholdDatasetRequest(name=name, holder=holder))
            else:
                await self._registry.UnholdModelVersion(UnholdModelVersionRequest(name=name, holder=holder))
