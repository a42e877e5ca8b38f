"""A process with every server behind it, each of them real."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg
import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lathe.registry.v1.architecture_service_pb2 import Architecture
from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub

from services.local.nats import NatsServer
from services.platform.settings import Settings
from services.process.composition import Need, Platform, open_platform
from services.process.startup import StartupError, prepare_schema
from tests.in_process import serve_in_process

from .conftest import GET, refused
from .toy import Toy

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_a_handler_has_database_bus_and_store(settings: Settings) -> None:
    toy = Toy()

    async def use_everything(_context: Any) -> Any:
        assert toy.platform is not None
        digest = await toy.platform.cas.put_bytes(b"hello")
        schema = await toy.platform.database.fetchval("SHOW search_path")
        return Architecture(name=schema, digest=digest.sha256, class_name=str(toy.platform.bus.connected))

    toy.behavior = use_everything
    async with (
        serve_in_process("toy", toy.build, settings) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        answer = await ArchitectureServiceStub(channel).GetArchitecture(GET)
        assert "toy" in answer.name
        assert answer.class_name == "True"
        assert len(answer.digest) == 64
        health = health_pb2_grpc.HealthStub(channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == SERVING


async def test_a_part_of_a_service_has_a_schema_of_its_own_and_shares_the_rest(settings: Settings) -> None:
    await prepare_schema(settings, "optimizer")
    async with open_platform(settings, "optimizer", [Need.DATABASE]) as platform:
        part = await platform.of_part("profiles")
        for database, schema in ((platform.database, "optimizer"), (part.database, "profiles")):
            assert await database.fetchval("SELECT current_schema()") == schema
            assert await database.fetchval("SELECT to_regclass('tasks')") is not None
        assert part.channel("registry") is platform.channel("registry")
    with pytest.raises(asyncpg.InterfaceError):
        await part.database.fetchval("SELECT 1")


async def test_health_follows_a_server_that_goes_and_comes_back(settings: Settings, tmp_path: Path) -> None:
    nats = NatsServer(tmp_path / "own-nats", durable=False)
    await asyncio.to_thread(nats.start)
    settings = settings.model_copy(update={"nats_url": nats.url})
    async with (
        serve_in_process("toy", Toy().build, settings, needs=[Need.BUS]) as address,
        grpc.aio.insecure_channel(address) as channel,
        asyncio.timeout(60),
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        await asyncio.to_thread(nats.stop)
        assert (await watch.read()).status == NOT_SERVING
        again = NatsServer(tmp_path / "own-nats", nats.port, durable=False)
        await asyncio.to_thread(again.start)
        try:
            assert (await watch.read()).status == SERVING
        finally:
            watch.cancel()
            await asyncio.to_thread(again.stop)


async def test_a_database_that_goes_away_is_unavailable_to_callers(settings: Settings) -> None:
    toy = Toy()

    async def ask(_context: Any) -> Any:
        assert toy.platform is not None
        await toy.platform.database.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    toy.behavior = ask
    async with (
        serve_in_process("toy", toy.build, settings, needs=[Need.DATABASE]) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        error = await refused(ArchitectureServiceStub(channel).GetArchitecture(GET))
        assert error.code is grpc.StatusCode.UNAVAILABLE
        assert error.message.startswith("PostgreSQL does not answer")


@pytest.mark.parametrize("need", [Need.DATABASE, Need.BUS])
async def test_without_its_server_a_process_gives_up_with_a_sentence(need: Need) -> None:
    nowhere = Settings(
        database_url="postgresql://u@127.0.0.1:1/d", nats_url="nats://127.0.0.1:1", startup_wait_seconds=0.1
    )
    with pytest.raises(StartupError, match="does not answer at"):
        async with open_platform(nowhere, "toy", [need]):
            pass


def test_what_was_not_asked_for_is_not_there() -> None:
    platform = Platform(Settings())
    for part in ("database", "bus", "cas"):
        with pytest.raises(AssertionError, match="was started without"):
            getattr(platform, part)
