"""The processes of tests/bench/simulation.py: a replica of a task service that also creates its share, or the workers.

Everything is real but the work: a job waits for as long as its seed says. All workers live in one process, each with a
pull request, a lease and an announcement of its own, as if it were alone.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import uvloop
from google.protobuf.message import Message
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.internal.v1 import event_pb2

from services.bus.connection import Bus, BusUnavailableError
from services.bus.pull import Puller
from services.bus.topology import TASKS, WORKERS, ensure_topology, work_consumer, worker_key
from services.database.pool import Database
from services.platform.background import Background, Work
from services.platform.identity import Caller, become
from services.platform.logs import configure_logs
from services.platform.settings import Settings, load_settings
from services.process.startup import tune_collector
from services.tasks.api.options import TaskOptions
from services.tasks.api.service import TaskEngine, build_engine
from services.tasks.kind import PreparedTask
from services.tasks.worker.job import Job, JobTools
from services.tasks.worker.timings import Timings
from tests.bench.task_process import NothingWork
from tests.in_process import InProcessRunner
from tests.integration.tasks.kit import DEVICE, EchoKind, FolderStore

LANES = 8


class WaitKind(EchoKind):
    """Tasks that may take an hour: a machine that is busy keeps jobs waiting far longer than they ask for."""

    async def prepare(self, spec: Message, project: str) -> PreparedTask:
        return replace(await super().prepare(spec, project), timeout_seconds=3600)


class Burst(NamedTuple):
    """Tasks that an owner creates one after the other, from a moment on.

    `at` is in seconds from when the workers come; what is negative is there before them.
    """

    at: float
    owner: str
    many: int
    priority: int
    seed: int


def seconds_of(seed: int, mean: float) -> float:
    """Return how long the task with a seed takes: log-normal, most a little shorter than the mean, a few far longer."""
    return random.Random(seed).lognormvariate(-0.18, 0.6) * mean


async def serve(settings: Settings, plan: Path, share: int, of: int) -> None:
    """Be a replica, and create every `of`-th burst of the plan."""
    bursts = [Burst(*each) for each in json.loads(plan.read_text())]
    database = await Database.connect(settings.database_url, "echo")
    bus = await Bus.connect(settings.nats_url, "simulation")
    kind, options = WaitKind(), TaskOptions.of(settings)
    await ensure_topology(bus, [kind.name], [DEVICE], options.timing)
    engine = build_engine(kind, database, bus, FolderStore(settings.data_dir / "blobs"), options)
    stopping, begin = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, begin.set)
    async with Background(engine.background):
        creating = asyncio.create_task(create(engine, bursts[share::of], begin))
        await stopping.wait()
        creating.cancel()
    await bus.close()
    await database.close()


async def create(engine: TaskEngine, bursts: Sequence[Burst], begin: asyncio.Event) -> None:
    """Create what is to be there before the workers, then what is due; LANES bursts at a time."""
    lanes = asyncio.Semaphore(LANES)

    async def one(burst: Burst) -> None:
        await asyncio.sleep(max(0.0, burst.at))
        async with lanes:
            become(Caller(burst.owner))
            for seed in range(burst.seed, burst.seed + burst.many):
                spec = pb.ConversionSpec(model_version="models/m/versions/1", template="templates/wait", seed=seed)
                task = pb.ConversionTask(spec=spec, priority=burst.priority)
                await engine.handlers.create(pb.CreateConversionTaskRequest(task=task))

    await asyncio.gather(*(one(burst) for burst in bursts if burst.at < 0))
    await begin.wait()
    await asyncio.gather(*(one(burst) for burst in bursts if burst.at >= 0))


async def work(settings: Settings, count: int, mean: float) -> None:
    """Be the workers."""
    options = TaskOptions.of(settings)
    bus = await Bus.connect(settings.nats_url, "workers")
    await ensure_topology(bus, ["conversion"], [DEVICE], options.timing)

    async def wait(request: dict[str, Any], *_: Any) -> dict[str, Any]:
        await asyncio.sleep(seconds_of(request["seed"], mean))
        return {"hardware": "none"}

    runner = InProcessRunner(wait, settings.work_dir)
    blobs, kind = FolderStore(settings.data_dir / "blobs"), NothingWork()
    nothing_timed = Timings(bus, blobs, DEVICE, {})
    held: dict[str, Job] = {}

    async def worker(name: str) -> None:
        tools = JobTools(bus, blobs, nothing_timed, runner, options.timing, name, "simulated", "{}")
        async with Puller(bus, TASKS, work_consumer(kind.name, DEVICE), 1) as puller:
            while True:
                (message,) = await puller.take(1)
                assignment = event_pb2.TaskAssignment.FromString(message.data)
                job = held[name] = Job(kind, assignment, message, tools)
                await job.run()
                held.pop(name, None)
                await puller.release()

    async def announce(name: str) -> None:
        between = options.timing.worker_ttl / 3
        await asyncio.sleep(random.uniform(0, between))
        while True:
            with suppress(BusUnavailableError):
                await bus.publish(_subject(name), _announcement(name))
            await asyncio.sleep(between)

    async def beat() -> None:
        while True:
            await asyncio.sleep(options.timing.heartbeat)
            for job in list(held.values()):
                await job.heartbeat()

    names = [f"w{number:04}" for number in range(count)]
    works: list[Work] = [beat, *(partial(each, name) for name in names for each in (announce, worker))]
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    tune_collector()
    async with Background(works):
        await stopping.wait()
    await bus.close()


def _subject(worker: str) -> str:
    return f"$KV.{WORKERS}." + worker_key("conversion", DEVICE, worker)


def _announcement(worker: str) -> bytes:
    told = event_pb2.WorkerAnnouncement(
        worker=worker, kind="conversion", device=DEVICE, environment="simulated", environment_json="{}", slots=1
    )
    return told.SerializeToString()


def main() -> None:
    """`api PLAN SHARE OF`, or `workers COUNT MEAN`."""
    settings = load_settings()
    configure_logs(settings, f"simulation-{sys.argv[1]}")
    if sys.argv[1] == "api":
        uvloop.run(serve(settings, Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
    else:
        uvloop.run(work(settings, int(sys.argv[2]), float(sys.argv[3])))


if __name__ == "__main__":
    main()
