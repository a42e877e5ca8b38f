"""Many calls, idle connections, old connections, large answers, and a server that goes away: what clients see of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lathe.converter.v1.conversion_service_pb2 import WatchConversionTaskRequest
from lathe.registry.v1.architecture_service_pb2 import Architecture
from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub

from services.platform.messages import MAX_MESSAGE_BYTES
from services.platform.settings import Settings

from .conftest import GET, Client, refused, serving

SETTINGS, PING, GOAWAY, ACKNOWLEDGED = 4, 6, 7, 1
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


async def test_thousands_of_calls_of_many_connections_are_answered_or_refused_with_words() -> None:
    full = asyncio.Event()

    async def wait_until_it_is_full(_context: Any) -> Architecture:
        await full.wait()
        return Architecture()

    async def code(call: Any) -> grpc.StatusCode:
        if (found := await code_of(call)) is grpc.StatusCode.RESOURCE_EXHAUSTED:
            full.set()
        return found

    # On a busy machine it takes long until all have arrived, and gRPC's own patience with a connection ends.
    settings = Settings(max_calls=300, default_deadline_seconds=240, drain_seconds=1)
    async with serving(settings) as client, AsyncExitStack() as stack:
        client.toy.behavior = wait_until_it_is_full
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(client.address, options=options))
            for _ in range(20)
        ]
        stubs = [ArchitectureServiceStub(channel) for channel in channels]
        codes = Counter(
            await asyncio.gather(
                *(code(stub.GetArchitecture(GET, wait_for_ready=True)) for stub in stubs for _ in range(150))
            )
        )
    assert codes.keys() == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert codes.total() == 3000


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


async def test_pings_of_an_idle_client_are_welcome(client: Client) -> None:
    """The client is a raw one: gRPC's own would first of all ping less often."""
    host, _, port = client.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS))
    answered = 0
    async with asyncio.timeout(60):
        for number in range(100):
            writer.write(frame(PING, number.to_bytes(8, "big")))
            await asyncio.sleep(0.005)
        while answered < 100:
            head = await reader.readexactly(9)
            await reader.readexactly(int.from_bytes(head[:3], "big"))
            assert head[3] != GOAWAY
            answered += head[3] == PING and head[4] == ACKNOWLEDGED
    writer.close()
    await writer.wait_closed()


def frame(kind: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2 that belongs to no stream."""
    return len(payload).to_bytes(3, "big") + bytes([kind, 0]) + bytes(4) + payload


async def test_an_old_connection_is_left_for_a_new_one_and_its_streams_go_on() -> None:
    peers: list[str] = []

    async def name_the_peer(context: Any) -> Architecture:
        peers.append(context.peer())
        return Architecture()

    async with serving(Settings(connection_age_seconds=0.3, drain_seconds=1)) as client:
        client.toy.behavior = name_the_peer
        stream = client.conversions.WatchConversionTask(ENDLESS)
        await stream.read()
        async with asyncio.timeout(60):
            while len(set(peers)) < 3:
                await client.get()
                await asyncio.sleep(0.05)
        assert not stream.done()
        stream.cancel()


async def test_connections_spread_over_a_replica_that_comes_later() -> None:
    """The balancer in front of them chooses once per connection, as a Kubernetes service does."""
    settings = Settings(connection_age_seconds=0.3, drain_seconds=1)
    served: Counter[str] = Counter()
    stop = asyncio.Event()

    def noting(replica: str) -> Any:
        async def note(_context: Any) -> Architecture:
            served[replica] += 1
            return Architecture()

        return note

    async with serving(settings) as one, AsyncExitStack() as stack:
        one.toy.behavior = noting("one")
        balancer = Balancer([one.address])
        where = await balancer.listen()
        codes: Counter[grpc.StatusCode] = Counter()

        async def call_on() -> None:
            async with grpc.aio.insecure_channel(where, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                stub = ArchitectureServiceStub(channel)
                while not stop.is_set():
                    codes[await code_of(stub.GetArchitecture(GET))] += 1
                    await asyncio.sleep(0.02)

        callers = [asyncio.create_task(call_on()) for _ in range(10)]
        while served["one"] < 50:
            await asyncio.sleep(0.05)
        two = await stack.enter_async_context(serving(settings))
        two.toy.behavior = noting("two")
        balancer.addresses.append(two.address)
        async with asyncio.timeout(60):
            while served["two"] < 100:
                await asyncio.sleep(0.05)
        stop.set()
        await asyncio.gather(*callers)
        await balancer.close()
    assert codes.keys() == {grpc.StatusCode.OK}


class Balancer:
    """Passes each new connection on to the next of `addresses`."""

    def __init__(self, addresses: list[str]) -> None:
        self.addresses = addresses
        self._taken = 0

    async def listen(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._taken += 1
        await Counting(self.addresses[self._taken % len(self.addresses)]).serve(reader, writer)

    async def close(self) -> None:
        self._server.close()


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


async def test_more_streams_than_a_server_takes_are_refused_with_words() -> None:
    async with serving(Settings(max_streams=2, drain_seconds=1)) as client:
        streams = [client.conversions.WatchConversionTask(ENDLESS) for _ in range(2)]
        for stream in streams:
            await stream.read()
        error = await refused(client.conversions.WatchConversionTask(ENDLESS).read())
        assert (error.code, error.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
        assert "2 streams" in error.message
        for stream in streams:
            stream.cancel()
