"""Measures the task engine with a kind whose work is nothing: `python -m tests.bench.tasks`.

A PostgreSQL and a NATS of its own (both durable, as `lathe up` runs them), one API process, one worker process, and
this process as the client. Everything shares the machine's cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import psutil
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.converter.v1 import conversion_service_pb2_grpc as rpc
from lathe.internal.keda import externalscaler_pb2 as scaler_pb
from lathe.internal.v1 import event_pb2
from lathe.type.v1 import task_pb2
from nats.aio.msg import Msg

from services.bus.connection import Bus
from services.database.pool import migrate
from services.local.nats import NatsServer
from services.local.ports import free_port
from services.local.postgres import PostgresServer
from services.tasks.api.scaler import SERVICE
from tests.bench.task_process import UNSERVED
from tests.integration.tasks import migrations

ROUNDS = 3


class Marks:
    """When each task was claimed and done, as the bus tells it to this process."""

    def __init__(self) -> None:
        self.claimed: dict[str, float] = {}
        self.done: dict[str, float] = {}
        self.last = 0.0

    async def on_event(self, message: Msg) -> None:
        event = event_pb2.TaskEvent.FromString(message.data)
        self.claimed.setdefault(event.task_id, time.perf_counter())

    async def on_change(self, message: Msg) -> None:
        if int(message.data.split()[1]) != task_pb2.TASK_STATE_SUCCEEDED:
            return
        self.last = time.perf_counter()
        self.done[message.subject.rpartition(".")[2]] = self.last


def request(seed: int) -> pb.CreateConversionTaskRequest:
    spec = pb.ConversionSpec(model_version="models/m/versions/1", template="templates/ok", seed=seed)
    return pb.CreateConversionTaskRequest(task=pb.ConversionTask(spec=spec))


async def create_many(stub: Any, seeds: Sequence[int], lanes: int) -> tuple[list[pb.ConversionTask], float]:
    """Create tasks over `lanes` callers at once; returns them and the seconds it took."""
    queue = list(seeds)
    made: list[pb.ConversionTask] = []

    async def lane() -> None:
        while queue:
            made.append(await stub.CreateConversionTask(request(queue.pop())))

    started = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(lanes)))
    return made, time.perf_counter() - started


async def finished(stub: Any, tasks: Sequence[pb.ConversionTask], marks: Marks) -> None:
    """Wait until every task is SUCCEEDED, asking seldom: it is the engine that is measured."""
    expected = len(tasks)
    while True:
        listed = await stub.ListConversionTasks(
            pb.ListConversionTasksRequest(page_size=1, filter="state = (PENDING OR RUNNING)")
        )
        if not listed.tasks and sum(task.uid in marks.done for task in tasks) == expected:
            return
        await asyncio.sleep(0.1)


class Meter:
    """Processor time of every process that takes part, their children included."""

    def __init__(self, processes: dict[str, int]) -> None:
        self._processes = processes

    def read(self) -> dict[str, float]:
        return {name: sum(_seconds(each) for each in _family(pid)) for name, pid in self._processes.items()}


def _family(pid: int) -> list[psutil.Process]:
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)] if pid != os.getpid() else [process]


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def pushes(stub: Any, channel: grpc.aio.Channel) -> list[float]:
    """Return the seconds from a created task, for a device without workers, to the scaler's push, beside 200 pools."""
    method: Any = channel.unary_stream(
        f"/{SERVICE}/StreamIsActive", scaler_pb.ScaledObjectRef.SerializeToString, scaler_pb.IsActiveResponse.FromString
    )
    streams = [method(scaler_pb.ScaledObjectRef(scalerMetadata={"device": UNSERVED})) for _ in range(200)]
    for stream in streams:
        assert not (await stream.read()).result
    found = []
    for seed in range(50):
        asked = request(2_000_000 + seed)
        asked.task.spec.output_model = f"models/{UNSERVED}"
        task = await stub.CreateConversionTask(asked)
        created = time.perf_counter()
        assert (await streams[0].read()).result
        found.append(time.perf_counter() - created)
        await stub.CancelConversionTask(pb.CancelConversionTaskRequest(name=task.name))
        assert not (await streams[0].read()).result
    for stream in streams:
        stream.cancel()
    return found


async def measure(stub: Any, bus: Bus, meter: Meter, count: int, lanes: int) -> list[tuple[str, str]]:
    marks = Marks()
    await bus.subscribe("claimed.>", marks.on_event)
    await bus.subscribe("changed.>", marks.on_change)
    seed = 1_000_000
    latencies: list[float] = []
    full: list[float] = []
    creates: list[float] = []
    for _ in range(200):
        seed += 1
        before = time.perf_counter()
        task = await stub.CreateConversionTask(request(seed))
        created = time.perf_counter()
        while task.uid not in marks.claimed or task.uid not in marks.done:
            await asyncio.sleep(0.0005)
        await asyncio.sleep(0.02)
        creates.append(created - before)
        latencies.append(max(marks.claimed[task.uid] - before, 0.0))
        full.append(marks.done[task.uid] - before)
    rows = [
        ("create call answers, idle: p50 / p99", quantiles(creates)),
        ("create call begins → claimed, idle: p50 / p99", quantiles(latencies)),
        ("create call begins → SUCCEEDED visible, idle: p50 / p99", quantiles(full)),
    ]
    hits = []
    for _ in range(100):
        before = time.perf_counter()
        task = await stub.CreateConversionTask(request(seed))
        hits.append(time.perf_counter() - before)
        assert task.status.state == task_pb2.TASK_STATE_SUCCEEDED
    rows.append(("cache hit, created to SUCCEEDED: p50 / p99", quantiles(hits)))
    for number in range(1, ROUNDS + 1):
        seeds = range(seed + 1, seed + 1 + count)
        seed += count
        before_cpu = meter.read()
        started = time.perf_counter()
        tasks, seconds = await create_many(stub, seeds, lanes)
        await finished(stub, tasks, marks)
        rows.append((f"round {number}: creates per second", f"{count / seconds:.0f}"))
        rows.append((f"round {number}: created → SUCCEEDED per second", f"{count / (marks.last - started):.0f}"))
        spent = {name: (value - before_cpu[name]) / count * 1e3 for name, value in meter.read().items()}
        parts = ", ".join(f"{name} {value:.2f}" for name, value in spent.items())
        rows.append((f"round {number}: processor time per task", f"{sum(spent.values()):.2f} ms ({parts})"))
    return rows


def quantiles(seconds: Sequence[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100)
    return f"{cuts[49] * 1e3:.1f} / {cuts[98] * 1e3:.1f} ms"


@asynccontextmanager
async def process(role: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.task_process", role, env={**os.environ, **environment}
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
        await child.wait()


async def bench(count: int, lanes: int, folder: Path) -> None:
    postgres, nats = PostgresServer(folder / "postgres"), NatsServer(folder / "nats")
    postgres.start()
    nats.start()
    await migrate(postgres.database_url("lathe"), "echo", migrations)
    port = free_port()
    environment = {
        "LATHE_DATABASE_URL": postgres.database_url("lathe"),
        "LATHE_NATS_URL": nats.url,
        "LATHE_DATA_DIR": str(folder),
        "LATHE_PORT": str(port),
        "LATHE_LOG_LEVEL": "warning",
    }
    try:
        async with (
            process("api", **environment) as api,
            process("worker", **environment) as worker,
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            stub = rpc.ConversionServiceStub(channel)
            bus = await Bus.connect(nats.url, "bench")
            await ready(stub)
            servers = {"postgres": pid_of(postgres), "nats": pid_of(nats)}
            meter = Meter({"client": os.getpid(), "api": api.pid, "worker": worker.pid, **servers})
            rows = await measure(stub, bus, meter, count, lanes)
            rows.append(("created, no worker → pushed to KEDA: p50 / p99", quantiles(await pushes(stub, channel))))
            await bus.close()
        width = max(len(label) for label, _ in rows)
        print(
            f"{count} tasks per round, {lanes} callers, load average {os.getloadavg()[0]:.1f}, {os.cpu_count()} cores"
        )
        for label, value in rows:
            print(f"{label:<{width}}  {value}")
    finally:
        nats.stop()
        postgres.stop()


def pid_of(server: PostgresServer | NatsServer) -> int:
    assert server.process is not None
    assert server.process.pid is not None
    return server.process.pid


async def ready(stub: Any) -> None:
    """Wait until a task runs through, and its repeat is a cache hit."""
    for attempt in range(300):
        try:
            task = await stub.CreateConversionTask(request(attempt % 2), timeout=5)
            if task.status.state == task_pb2.TASK_STATE_SUCCEEDED:
                return
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.1)
        await asyncio.sleep(0.1)
    raise SystemExit("The API process or the worker did not come up.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--callers", type=int, default=32)
    options = parser.parse_args()
    import uvloop

    with tempfile.TemporaryDirectory(prefix="tasks-bench-") as folder:
        uvloop.run(bench(options.count, options.callers, Path(folder)))


if __name__ == "__main__":
    main()
