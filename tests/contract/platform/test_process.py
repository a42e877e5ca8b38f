"""An API process as an operator meets it: its first line, its signals, its refusals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import Process
from collections import Counter

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub

from .conftest import GET

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
NOWHERE = "127.0.0.1:1"


async def start(**environment: str) -> Process:
    """Start a toy process with these variables."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("LATHE_")}
    clean["LATHE_SHUTDOWN_PAUSE_SECONDS"] = "0"
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.contract.platform.toy",
        env={**clean, **environment}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def line_with(process: Process, text: str) -> str:
    """Return the first line of its log that has the text."""
    assert process.stderr is not None
    async with asyncio.timeout(60):
        while line := await process.stderr.readline():
            if text in line.decode():
                return line.decode().strip()
    raise AssertionError(f"the process ended without saying {text!r}")


async def ended(process: Process) -> tuple[int, str]:
    """Return the exit status and the last line of a process that ends by itself."""
    async with asyncio.timeout(60):
        _, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, err.decode().strip().splitlines()[-1] if err else ""


async def test_it_serves_until_sigterm_and_then_ends_well() -> None:
    process = await start()
    address = (await line_with(process, "ready")).split("address=")[1].split()[0]
    async with grpc.aio.insecure_channel(address) as channel:
        assert (await ArchitectureServiceStub(channel).GetArchitecture(GET)).owner == "anonymous"
    process.send_signal(signal.SIGTERM)
    await line_with(process, "stopped")
    assert (await ended(process))[0] == 0


async def test_while_it_stops_every_call_is_answered_or_sent_elsewhere() -> None:
    process = await start(LATHE_SHUTDOWN_PAUSE_SECONDS="3")  # time for calls, also if this process has to wait for 2 s
    address = (await line_with(process, "ready")).split("address=")[1].split()[0]
    codes: Counter[grpc.StatusCode] = Counter()
    async with grpc.aio.insecure_channel(address) as channel:
        stub = ArchitectureServiceStub(channel)
        gone = asyncio.create_task(ended(process))

        async def call_on() -> None:
            while not gone.done():
                try:
                    await stub.GetArchitecture(GET)
                    codes[grpc.StatusCode.OK] += 1
                except grpc.aio.AioRpcError as error:
                    codes[error.code()] += 1

        callers = [asyncio.create_task(call_on()) for _ in range(20)]
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        process.send_signal(signal.SIGTERM)
        assert (await watch.read()).status == NOT_SERVING
        before = codes[grpc.StatusCode.OK]
        await asyncio.gather(*callers)
        assert (await gone)[0] == 0
    assert codes[grpc.StatusCode.OK] > before  # while it tells that it goes away
    assert set(codes) <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}


async def test_a_taken_port_is_said() -> None:
    first = await start()
    port = (await line_with(first, "ready")).rpartition(":")[2].split()[0]
    status, said = await ended(await start(LATHE_PORT=port))
    assert status == 1
    assert f"127.0.0.1:{port} is in use" in said
    first.send_signal(signal.SIGTERM)
    await ended(first)


async def test_without_postgresql_it_waits_then_says_what_to_do() -> None:
    url = f"postgresql://lathe:hunter2@{NOWHERE}/lathe"
    process = await start(TOY_NEEDS="1", LATHE_DATABASE_URL=url, LATHE_STARTUP_WAIT_SECONDS="1")
    waiting = await line_with(process, "waiting for PostgreSQL")
    assert "LATHE_DATABASE_URL" in waiting
    status, said = await ended(process)
    assert status == 1
    assert said.startswith("lathe toy cannot start: PostgreSQL does not answer at")
    assert "set LATHE_DATABASE_URL" in said
    assert "hunter2" not in waiting + said


async def test_while_it_waits_a_signal_ends_it_and_what_it_started() -> None:
    url = f"postgresql://lathe@{NOWHERE}/lathe"
    process = await start(TOY_NEEDS="1", LATHE_DATABASE_URL=url)
    await line_with(process, "waiting for PostgreSQL")
    process.send_signal(signal.SIGTERM)
    # The end of the log is the end of the last process that held it open.
    assert (await ended(process))[0] == 0


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("LATHE_PORT", "many", "LATHE_PORT: "),
        ("LATHE_BIND_HOST", "0.0.0.0", "LATHE_AUTH_TOKENS_FILE"),
        ("LATHE_AUTH_TOKENS_FILE", "/nowhere", "cannot be read"),
    ],
)
async def test_a_configuration_that_cannot_be_is_refused_in_a_sentence(variable: str, value: str, said: str) -> None:
    status, last = await ended(await start(**{variable: value}))
    assert status == 2
    assert last.startswith("lathe toy cannot start: ")
    assert said in last
