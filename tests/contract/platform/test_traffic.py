"""Many calls, idle connections, old connections, large answers, and a server that goes away: what clients see of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lathe.converter.v1.conversion_service_pb2 import WatchConversionTaskRequest
from lathe.registry.v1.architecture_service_pb2 import Architecture
from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub

from services.platform.messages import MAX_MESSAGE_BYTES
from services.platform.settings import Settings
from services.process import server

from .conftest import GET, Client, refused, serving

ENDLESS = WatchConversionTaskRequest(name="conversionTasks/endless")


async def code_of(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_thousands_of_calls_at_once_are_answered(client: Client) -> None:
    codes = Counter(await asyncio.gather(*(code_of(client.get()) for _ in range(2000))))
    assert codes == {grpc.StatusCode.OK: 2000}


async def test_more_calls_than_a_server_takes_are_refused_with_words() -> None:
    release, both = asyncio.Event(), asyncio.Barrier(3)

    async def wait(_context: Any) -> Architecture:
        await both.wait()
        await release.wait()
        return Architecture()

    async with serving(Settings(max_calls=2, drain_seconds=1)) as client:
        client.toy.behavior = wait
        taken = [asyncio.ensure_future(client.get()) for _ in range(2)]
        await both.wait()
        error = await refused(client.get())
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert error.retry_after
        health = health_pb2_grpc.HealthStub(client.channel)
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
        release.set()
        await asyncio.gather(*taken)
        both = asyncio.Barrier(1)
        assert await code_of(client.get()) is grpc.StatusCode.OK


async def test_pings_of_an_idle_client_are_welcome(monkeypatch: pytest.MonkeyPatch) -> None:
    often = ("grpc.http2.min_ping_interval_without_data_ms", 20)
    assert often[0] in dict(server._OPTIONS)
    monkeypatch.setattr(server, "_OPTIONS", [*(each for each in server._OPTIONS if each[0] != often[0]), often])
    pings = [("grpc.keepalive_time_ms", 50), ("grpc.keepalive_permit_without_calls", 1)]
    pings += [("grpc.http2.max_pings_without_data", 0)]
    async with serving() as one, grpc.aio.insecure_channel(one.address, options=pings) as channel:
        await ArchitectureServiceStub(channel).GetArchitecture(GET)
        states = []
        for _ in range(20):
            await asyncio.sleep(0.05)
            states.append(channel.get_state())
    assert set(states) == {grpc.ChannelConnectivity.READY}


async def test_an_old_connection_is_left_for_a_new_one_and_its_streams_go_on() -> None:
    peers: list[str] = []

    async def name_the_peer(context: Any) -> Architecture:
        peers.append(context.peer())
        return Architecture()

    async with serving(Settings(connection_age_seconds=0.3, drain_seconds=1)) as client:
        client.toy.behavior = name_the_peer
        stream = client.conversions.WatchConversionTask(ENDLESS)
        await stream.read()
        async with asyncio.timeout(20):
            while len(set(peers)) < 3:
                await client.get()
                await asyncio.sleep(0.05)
        assert not stream.done()
        stream.cancel()


async def test_an_answer_that_no_client_could_receive_is_told_as_such(client: Client) -> None:
    async def vast(_context: Any) -> Architecture:
        return Architecture(source="x" * MAX_MESSAGE_BYTES)

    client.toy.behavior = vast
    error = await refused(client.get())
    assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "ANSWER_TOO_LARGE")


class Counting:
    """Passes bytes on to a server, and counts those that come back."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self.bytes = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(self._host, int(self._port))
        self._writers += [writer, forth]
        await asyncio.gather(self._pump(reader, forth), self._pump(back, writer, counted=True))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, counted: bool = False) -> None:
        while data := await source.read(1 << 16):
            self.bytes += len(data) if counted else 0
            sink.write(data)
        sink.close()


@pytest.mark.parametrize(
    ("accepts", "size", "compressed"), [(7, 500_000, True), (1, 500_000, False), (7, 8_000, False)]
)
async def test_large_answers_are_compressed_for_clients_that_ask(
    client: Client, accepts: int, size: int, compressed: bool
) -> None:
    async def repeat(_context: Any) -> Architecture:
        return Architecture(source="a line of text\n" * (size // 15))

    client.toy.behavior = repeat
    counting = Counting(client.address)
    proxy = await asyncio.start_server(counting.serve, "127.0.0.1", 0)
    options = [("grpc.compression_enabled_algorithms_bitset", accepts)]  # bits: identity, deflate, gzip
    where = f"127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
    async with grpc.aio.insecure_channel(where, options=options) as channel:
        answer = await ArchitectureServiceStub(channel).GetArchitecture(GET)
    proxy.close()
    assert len(answer.source) > size - 15
    assert (counting.bytes < size / 10) is compressed
