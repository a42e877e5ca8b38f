"""Health follows the servers behind a service, and its draining."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lathe.converter.v1.conversion_service_pb2 import WatchConversionTaskRequest
from lathe.converter.v1.conversion_service_pb2_grpc import ConversionServiceStub
from lathe.registry.v1.architecture_service_pb2 import Architecture
from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub

from services.platform.health import LIVE, Health
from services.platform.settings import Settings
from tests.in_process import serve_in_process

from .conftest import GET, Client, refused, serving
from .toy import NAMES, Toy

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def told(client: Client, service: str = "") -> Any:
    stub = health_pb2_grpc.HealthStub(client.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


@pytest.mark.parametrize("service", ["", *NAMES])
async def test_each_service_and_the_whole_are_told(client: Client, service: str) -> None:
    assert await told(client, service) == SERVING


async def test_an_unknown_service_is_not_found(client: Client) -> None:
    assert (await refused(told(client, "nothing"))).code is grpc.StatusCode.NOT_FOUND


async def test_all_services_are_listed(client: Client) -> None:
    listed = await health_pb2_grpc.HealthStub(client.channel).List(health_pb2.HealthListRequest())
    assert {name: each.status for name, each in listed.statuses.items()} == dict.fromkeys(["", LIVE, *NAMES], SERVING)


class Server:
    """A server behind the service that can be taken away."""

    answers = True

    async def probe(self) -> None:
        if not self.answers:
            raise ConnectionError("away")


async def test_one_silent_moment_is_tolerated_and_two_are_not() -> None:
    server, names = Server(), ["a.Service"]
    health = Health(names, {"PostgreSQL": server.probe, "NATS": Server().probe})
    grpc_server = grpc.aio.server()
    await health.register(grpc_server)
    port = grpc_server.add_insecure_port("127.0.0.1:0")
    await grpc_server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def status(service: str = "a.Service") -> Any:
            return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status

        assert await status() == NOT_SERVING
        assert await health.check()
        assert await status() == SERVING
        server.answers = False
        assert not await health.check()
        assert await status() == SERVING
        await health.check()
        assert await status() == NOT_SERVING
        assert await status(LIVE) == SERVING
        server.answers = True
        await health.check()
        assert await status() == SERVING
    await grpc_server.stop(0)


async def test_a_server_that_is_away_at_the_start_keeps_the_service_from_serving() -> None:
    server = Server()
    server.answers = False
    health = Health(["a.Service"], {"NATS": server.probe})
    await health.register(grpc.aio.server())
    assert not await health.check()
    server.answers = True
    assert await health.check()


async def test_draining_tells_first_sends_streams_away_and_lets_calls_finish() -> None:
    toy, started, release, stop = Toy(), asyncio.Event(), asyncio.Event(), asyncio.Event()
    address: asyncio.Queue[str] = asyncio.Queue()

    async def slow(_context: Any) -> Any:
        started.set()
        await release.wait()
        return Architecture(name="finished")

    async def serve() -> None:
        async with serve_in_process("toy", toy.build, Settings(drain_seconds=30), needs=()) as where:
            address.put_nowait(where)
            await stop.wait()

    toy.behavior = slow
    server = asyncio.create_task(serve())
    async with grpc.aio.insecure_channel(await address.get()) as channel:
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        endless = WatchConversionTaskRequest(name="conversionTasks/endless")
        stream = ConversionServiceStub(channel).WatchConversionTask(endless)
        call = ArchitectureServiceStub(channel).GetArchitecture(GET)
        assert (await health.read()).status == SERVING
        await stream.read()
        await started.wait()

        stop.set()
        assert (await health.read()).status == NOT_SERVING
        error = await refused(stream.read())
        assert error.code is grpc.StatusCode.UNAVAILABLE
        assert error.retry_after
        assert not server.done()
        release.set()
        assert (await call).name == "finished"
        await server


async def test_what_runs_beside_the_calls_is_restarted_and_ends_with_the_server() -> None:
    events: list[str] = []
    running = asyncio.Event()

    async def work() -> None:
        events.append("started")
        if events.count("started") == 1:
            raise RuntimeError("the first time it fails")
        running.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("ended")
            raise

    toy = Toy()
    toy.background = [work]
    async with serving(toy=toy):
        await running.wait()
    assert events == ["started", "started", "ended"]
