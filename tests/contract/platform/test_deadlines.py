"""Calls end, whether or not their client says when."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lathe.converter.v1.conversion_service_pb2 import WatchConversionTaskRequest
from lathe.registry.v1.architecture_service_pb2 import Architecture

from services.platform.interceptors import deadline
from services.platform.settings import Settings

from .conftest import refused, serving

SHORT = Settings(default_deadline_seconds=0.1, max_deadline_seconds=30)
CAPPED = Settings(default_deadline_seconds=0.1, max_deadline_seconds=0.1, drain_seconds=1)
ENDLESS = WatchConversionTaskRequest(name="conversionTasks/endless")


async def forever(_context: Any) -> None:
    await asyncio.Event().wait()


async def all_of(stream: Any) -> list[Any]:
    return [each async for each in stream]


async def test_without_a_deadline_the_default_ends_the_call_and_its_handler() -> None:
    async with serving(SHORT) as client:
        client.toy.behavior = forever
        error = await refused(client.get())
        assert error.code is grpc.StatusCode.DEADLINE_EXCEEDED
        assert error.reason == "DEADLINE_EXCEEDED"
        assert "0.1 s" in error.message
        assert client.toy.cancelled.is_set()


async def test_a_deadline_of_the_client_replaces_the_default() -> None:
    async def slower_than_the_default(_context: Any) -> Any:
        await asyncio.sleep(0.2)
        return Architecture(name="done")

    async with serving(SHORT) as client:
        client.toy.behavior = slower_than_the_default
        assert (await client.get(timeout=20)).name == "done"


async def test_the_clients_own_deadline_ends_the_handler() -> None:
    async with serving(Settings()) as client:
        client.toy.behavior = forever
        async with asyncio.timeout(60):
            while not client.toy.cancelled.is_set():  # the time of a call may be over before it has arrived
                assert (await refused(client.get(timeout=0.1))).code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_no_deadline_is_longer_than_the_maximum() -> None:
    async with serving(CAPPED) as client:
        client.toy.behavior = forever
        assert (await refused(client.get(timeout=3000))).code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_stream_outlives_the_default() -> None:
    async with serving(SHORT) as client:
        stream = client.conversions.WatchConversionTask(ENDLESS)
        await stream.read()
        await asyncio.sleep(0.2)
        assert not stream.done()
        stream.cancel()
        await client.toy.cancelled.wait()


async def test_a_stream_outlives_the_maximum() -> None:
    async with serving(CAPPED) as client:
        streams: list[Any] = [
            client.conversions.WatchConversionTask(ENDLESS),
            health_pb2_grpc.HealthStub(client.channel).Watch(health_pb2.HealthCheckRequest()),
        ]
        for stream in streams:
            await stream.read()
        await asyncio.sleep(0.3)
        for stream in streams:
            assert not stream.done()
            stream.cancel()


async def test_a_stream_ends_when_its_client_asks() -> None:
    async with serving(CAPPED) as client:
        async with asyncio.timeout(60):
            while not client.toy.cancelled.is_set():  # its time may be over before it has arrived
                stream = client.conversions.WatchConversionTask(ENDLESS, timeout=0.2)
                assert (await refused(all_of(stream))).code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_handler_knows_how_much_time_is_left() -> None:
    left: list[float | None] = []

    async def look(_context: Any) -> Any:
        left.append(deadline.remaining())
        return Architecture()

    async with serving(Settings(default_deadline_seconds=50)) as client:
        client.toy.behavior = look
        await client.get()
        await client.get(timeout=20)
    assert left[0] is not None
    assert left[1] is not None
    # On the wire a deadline is rounded, by up to a percent.
    assert 21 < left[0] <= 50
    assert 0 < left[1] <= 21
    assert deadline.remaining() is None
