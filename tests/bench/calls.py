"""What a call costs beside a bare one: `python -m tests.bench.calls`.

Get and List of a registry against an echo of the same bytes by a bare grpc.aio server, in turns, by 32 callers: in
calls a second, which the database and this process take part in, and in processor time of the server. And what the
line in the log adds to a call, in processor time of two registries. Goals: Get ≥ 0.6×, List of 100 ≥ 0.4×, logging
< 5 %.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import psutil
from lathe.registry.v1.model_service_pb2 import CreateModelRequest, GetModelRequest, ListModelsRequest, Model
from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub

from services.local.ports import free_port
from tests.bench.registry import registry, servers

CALLERS = 32
PAGE = 100
GOALS = {"Get": 0.6, f"List of {PAGE}": 0.4}
Call = Callable[[], Awaitable[Any]]


async def serve_echo(port: int) -> None:
    """Answer every call with the bytes that it brings."""

    async def echo(request: bytes, _context: Any) -> bytes:
        return request

    server = grpc.aio.server()
    handler: Any = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def per_second(call: Call, calls: int) -> float:
    """Return how many calls a second all callers together get answered."""

    async def caller() -> None:
        for _ in range(calls // CALLERS):
            await call()

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return calls // CALLERS * CALLERS / (time.perf_counter() - started)


async def rates(process: psutil.Process, call: Call, calls: int) -> tuple[float, float]:
    """Return how many calls a second are answered, and the server's processor time for each in seconds."""
    before = process.cpu_times()
    rate = await per_second(call, calls)
    after = process.cpu_times()
    return rate, float(after.user + after.system - before.user - before.system) / calls


async def measure(echo: str, noisy: str, silent: str, processes: list[psutil.Process], rounds: int) -> None:
    """Print both tables; `noisy` and `silent` are registries over one database, with and without a log of calls.

    `processes` are those of the three.
    """
    async with grpc.aio.insecure_channel(echo) as bare, grpc.aio.insecure_channel(noisy) as channel:
        models = ModelServiceStub(channel)
        await asyncio.wait_for(channel.channel_ready(), 60)
        await asyncio.wait_for(bare.channel_ready(), 60)
        for number in range(PAGE):
            made = await models.CreateModel(CreateModelRequest(model=Model(display_name=f"Bench {number}")))
        get, page = GetModelRequest(name=made.name), ListModelsRequest(page_size=PAGE)
        listed = (await models.ListModels(page)).SerializeToString()
        back: Any = bare.unary_unary("/bench.Echo/Echo")
        pairs: dict[str, tuple[Call, Call, int]] = {
            "Get": (lambda: models.GetModel(get), lambda: back(made.SerializeToString()), 3200),
            f"List of {PAGE}": (lambda: models.ListModels(page), lambda: back(listed), 800),
        }
        print("| call | a second | bare echo | ratio | of processor time | goal |\n|---|---:|---:|---:|---:|---:|")
        for title, (call, echoed, calls) in pairs.items():
            turns = [
                (await rates(processes[1], call, calls), await rates(processes[0], echoed, calls))
                for _ in range(rounds)
            ]
            ours, bares = (statistics.median(turn[which][0] for turn in turns) for which in (0, 1))
            ratio = statistics.median(mine[0] / bare[0] for mine, bare in turns)
            of_time = statistics.median(bare[1] / mine[1] for mine, bare in turns)
            print(f"| {title} | {ours:.0f} | {bares:.0f} | {ratio:.2f} | {of_time:.2f} | {GOALS[title]} |", flush=True)
        async with grpc.aio.insecure_channel(silent) as other:
            quiet = ModelServiceStub(other)
            await asyncio.wait_for(other.channel_ready(), 60)
            costs: list[tuple[float, float]] = []
            for _ in range(rounds):
                _, with_log = await rates(processes[1], lambda: models.GetModel(get), 3200)
                _, without = await rates(processes[2], lambda: quiet.GetModel(get), 3200)
                costs.append((with_log, without))
        logged, plain = (statistics.median(each) * 1e6 for each in zip(*costs, strict=True))
        share = statistics.median(one / two - 1 for one, two in costs)
        print(
            f"\nA Get takes {logged:.0f} µs of processor time, {plain:.0f} µs without its line: {share:+.1%} (< 5 %)."
        )


def main() -> None:
    """Start the servers, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--echo", type=int, help="serve the echo on this port")
    options = parser.parse_args()
    if options.echo:
        asyncio.run(serve_echo(options.echo))
        return
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="lathe-bench-") as folder, ExitStack() as stack:
        places = stack.enter_context(servers(Path(folder)))
        noisy, first = stack.enter_context(
            registry(places | {"log_level": "info"}, stack.enter_context(Path(folder, "log").open("w")))
        )
        silent, second = stack.enter_context(registry(places))
        echo = subprocess.Popen([sys.executable, "-m", "tests.bench.calls", "--echo", str(port)])
        stack.callback(echo.wait)
        stack.callback(echo.terminate)
        asyncio.run(
            measure(f"127.0.0.1:{port}", noisy, silent, [psutil.Process(echo.pid), first, second], options.rounds)
        )


if __name__ == "__main__":
    main()
