"""What goes along when one service calls another."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from lathe.converter.v1.conversion_service_pb2 import WatchConversionTaskRequest
from lathe.converter.v1.conversion_service_pb2_grpc import ConversionServiceStub
from lathe.registry.v1.architecture_service_pb2 import Architecture
from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub
from pydantic import SecretStr

from services.platform import errors
from services.platform.identity import acting_as, current_user
from services.platform.settings import Settings
from services.platform.telemetry import current_traceparent
from services.process.composition import Platform

from .conftest import GET, Client, refused, serving
from .toy import NAMES

TRACE = "0af7651916cd43dd8448eb211c80319c"


class Seen:
    """What the called service saw of each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, float]] = []

    async def __call__(self, context: Any) -> Any:
        self.calls.append((current_user(), current_traceparent().split("-")[1], context.time_remaining()))
        return Architecture()


def calls_through(front: Client) -> None:
    """Let the front service call its registry in GetArchitecture."""
    platform = front.toy.platform
    assert platform is not None

    async def behavior(_context: Any) -> Any:
        return await ArchitectureServiceStub(platform.channel("registry")).GetArchitecture(GET)

    front.toy.behavior = behavior


async def test_identity_trace_and_deadline_go_along() -> None:
    async with serving() as back, serving(Settings(registry_address=back.address, drain_seconds=1)) as front:
        back.toy.behavior = seen = Seen()
        calls_through(front)
        metadata = [("x-lathe-user", "ann"), ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")]
        await front.get(metadata=metadata, timeout=20)
        ((user, trace, left),) = seen.calls
        assert (user, trace) == ("ann", TRACE)
        assert 0 < left <= 21


async def test_a_call_in_the_background_has_its_own_deadline_and_user() -> None:
    async with serving() as back:
        back.toy.behavior = seen = Seen()
        platform = Platform(Settings(registry_address=back.address, default_deadline_seconds=30))
        stub = ArchitectureServiceStub(platform.channel("registry"))
        with acting_as("bob"):
            await stub.GetArchitecture(GET)
        await stub.GetArchitecture(GET, timeout=10)
        (bob, _, first), (nobody, _, second) = seen.calls
        assert (bob, nobody) == ("bob", "anonymous")
        assert 11 < first <= 31
        assert 0 < second <= 11
        await platform.close()


async def test_a_stream_carries_its_caller_too() -> None:
    async with serving() as back:
        platform = Platform(Settings(converter_address=back.address))
        stub = ConversionServiceStub(platform.channel("converter"))
        with acting_as("bob"):
            stream = stub.WatchConversionTask(WatchConversionTaskRequest(name="conversionTasks/x"))
            assert [task.owner async for task in stream] == ["", "bob"]
        await platform.close()


async def test_with_tokens_a_service_speaks_for_its_caller(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({"token-of-ann": "ann"}))
    guarded = Settings(auth_tokens_file=tokens, service_token=SecretStr("between-services"), drain_seconds=1)
    async with (
        serving(guarded) as back,
        serving(guarded.model_copy(update={"registry_address": back.address})) as front,
    ):
        back.toy.behavior = seen = Seen()
        calls_through(front)
        await front.get(metadata=[("authorization", "Bearer token-of-ann")])
        assert seen.calls[0][0] == "ann"


async def test_what_a_sibling_answers_reaches_the_caller() -> None:
    async with serving() as back, serving(Settings(registry_address=back.address, drain_seconds=1)) as front:
        calls_through(front)
        back.raises(errors.not_found("architecture", "architectures/x"))
        seen = await refused(front.get())
        assert (seen.code, seen.resource) == (grpc.StatusCode.NOT_FOUND, ("architecture", "architectures/x"))
        back.raises(KeyError("internal detail"))
        seen = await refused(front.get())
        assert seen.code is grpc.StatusCode.INTERNAL
        assert "internal detail" not in seen.message


async def test_a_sibling_that_goes_away_with_the_call_in_hand_is_unavailable() -> None:
    async with (
        grpc_server() as (server, address, begun),
        serving(Settings(registry_address=address, drain_seconds=1)) as front,
    ):
        calls_through(front)
        call = asyncio.ensure_future(refused(front.get()))
        await begun.wait()
        await server.stop(0)  # cancels what is in hand
        seen = await call
        assert seen.code is grpc.StatusCode.UNAVAILABLE
        assert seen.retry_after


@asynccontextmanager
async def grpc_server() -> AsyncIterator[tuple[grpc.aio.Server, str, asyncio.Event]]:
    """A server that never answers, and what is set when it has a call in hand."""
    begun = asyncio.Event()

    async def wait(_request: Any, _context: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "GetArchitecture": grpc.unary_unary_rpc_method_handler(wait)
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAMES[0], handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield server, f"127.0.0.1:{port}", begun
    await server.stop(0)


async def test_a_sibling_that_is_away_is_unavailable() -> None:
    async with serving(Settings(registry_address="127.0.0.1:1", drain_seconds=1)) as front:
        calls_through(front)
        seen = await refused(front.get())
        assert seen.code is grpc.StatusCode.UNAVAILABLE
        assert seen.message.startswith("Another Lathe service")
