"""A service of two protos whose answers the tests choose; run as a module it is a process of its own."""

# ruff: noqa: N802

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import grpc
from grpc._cython import cygrpc  # type: ignore[attr-defined]
from lathe.converter.v1 import conversion_service_pb2 as conversion
from lathe.converter.v1.conversion_service_pb2_grpc import (
    ConversionServiceServicer,
    add_ConversionServiceServicer_to_server,
)
from lathe.registry.v1 import architecture_service_pb2 as architecture
from lathe.registry.v1.architecture_service_pb2_grpc import (
    ArchitectureServiceServicer,
    add_ArchitectureServiceServicer_to_server,
)

from services.platform.access import DEFAULT_PROJECT, Role
from services.platform.identity import current_user
from services.process.composition import Platform
from services.process.server import ServiceParts, run

NAMES = ["lathe.registry.v1.ArchitectureService", "lathe.converter.v1.ConversionService"]

_Architectures: Any = ArchitectureServiceServicer
_Conversions: Any = ConversionServiceServicer


async def _roles(_user: str, _groups: frozenset[str]) -> Mapping[str, int]:
    return {DEFAULT_PROJECT: Role.EDITOR}


class Toy(_Architectures, _Conversions):  # type: ignore[misc]  # it answers only what the tests call
    """`behavior` is what GetArchitecture does; everything else is fixed."""

    def __init__(self) -> None:
        self.behavior: Callable[[Any], Awaitable[Any]] = self.name_the_caller
        self.platform: Platform | None = None
        self.cancelled = asyncio.Event()
        self.watching = asyncio.Event()
        self.background: list[Callable[[], Awaitable[None]]] = []

    async def name_the_caller(self, _context: Any) -> architecture.Architecture:
        return architecture.Architecture(owner=current_user())

    async def GetArchitecture(self, request: Any, context: Any) -> Any:
        try:
            return await self.behavior(context)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def CreateArchitecture(self, request: Any, context: Any) -> Any:
        return request.architecture

    async def WatchConversionTask(self, request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            yield conversion.ConversionTask(name=request.name)
            self.watching.set()
            if request.name.endswith("/endless"):
                await asyncio.Event().wait()
            if request.name.endswith("/unsent"):
                # What gRPC raises in place of a cancellation if the client went away while a message was on its way.
                raise cygrpc.ExecuteBatchError("Failed")
            if request.name.endswith("/broken"):
                raise KeyError("internal detail")
            yield conversion.ConversionTask(name="last", owner=current_user())
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def build(self, platform: Platform) -> ServiceParts:
        """Build the service around this object."""
        self.platform = platform

        def register(server: grpc.aio.Server) -> None:
            add_ArchitectureServiceServicer_to_server(self, server)
            add_ConversionServiceServicer_to_server(self, server)

        return ServiceParts(register, NAMES, self.background, roles=_roles)


if __name__ == "__main__":
    import os

    from services.process.composition import EVERYTHING

    run("toy", Toy().build, EVERYTHING if os.environ.get("TOY_NEEDS") else ())
