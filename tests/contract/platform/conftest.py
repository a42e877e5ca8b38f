"""The toy service in this process, and what a client sees of it."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import structlog
from lathe.converter.v1.conversion_service_pb2_grpc import ConversionServiceStub
from lathe.registry.v1.architecture_service_pb2 import GetArchitectureRequest
from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub

from services.platform.errors import LatheError, from_rpc_error
from services.platform.logs import configure_logs
from services.platform.settings import Settings
from tests.in_process import serve_in_process

from .toy import Toy

GET = GetArchitectureRequest(name="architectures/x")


class Client:
    """A toy, the channel to it, and its stubs."""

    def __init__(self, toy: Toy, address: str, channel: grpc.aio.Channel) -> None:
        self.toy = toy
        self.address = address
        self.channel = channel
        self.architectures = ArchitectureServiceStub(channel)
        self.conversions = ConversionServiceStub(channel)

    async def get(self, **call: Any) -> Any:
        """Call GetArchitecture, whose behavior the test has chosen."""
        return await self.architectures.GetArchitecture(GET, **call)

    def raises(self, error: BaseException) -> None:
        """Let GetArchitecture raise."""

        async def behavior(_context: Any) -> Any:
            raise error

        self.toy.behavior = behavior


@asynccontextmanager
async def serving(settings: Settings | None = None, toy: Toy | None = None) -> AsyncIterator[Client]:
    """Serve a toy that needs no server behind it."""
    toy = toy or Toy()
    settings = settings or Settings(drain_seconds=1)
    async with (
        serve_in_process("toy", toy.build, settings, needs=()) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield Client(toy, address, channel)


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with serving() as one:
        yield one


async def refused(call: Awaitable[Any]) -> LatheError:
    """Await a call that must fail; return its status with the details."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


@pytest.fixture
def log_lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """A function that returns the lines logged so far, each as a dict."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    configure_logs(Settings(log_format="json", log_level="debug"), "toy", stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    structlog.reset_defaults()
    root.handlers[:], root.level = before
