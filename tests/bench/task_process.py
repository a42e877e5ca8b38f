"""The processes that tests/bench/tasks.py measures: an API with a no-op kind, or a worker for it."""

from __future__ import annotations

import asyncio
import cProfile
import os
import signal
import sys
import time
from typing import Any

import uvloop

from services.bus.connection import Bus
from services.bus.topology import ensure_topology
from services.platform.logs import configure_logs
from services.platform.settings import load_settings
from services.process.composition import Need, Platform
from services.process.server import ServiceParts, run
from services.process.startup import tune_collector
from services.tasks.api.options import TaskOptions
from services.tasks.api.scaler import Scaler
from services.tasks.api.service import build_engine
from services.tasks.api.servicer import TaskServicer
from services.tasks.worker.presence import Pool
from services.tasks.worker.worker import Worker
from tests.in_process import InProcessRunner
from tests.integration.tasks.kit import DEVICE, EchoKind, EchoWork, FolderStore

CONCURRENCY = 64
UNSERVED = "cpu-arm64"


class NothingWork(EchoWork):
    """Work without outputs."""

    outputs_dir = ""


async def build(platform: Platform) -> ServiceParts:
    options, kind = TaskOptions.of(platform.settings), EchoKind()
    await ensure_topology(platform.bus, [kind.name], [DEVICE, UNSERVED], options.timing)
    blobs = FolderStore(platform.settings.data_dir / "blobs")
    engine = build_engine(kind, platform.database, platform.bus, blobs, options)
    scaler = Scaler("echo", [DEVICE, UNSERVED])
    scaler.join(engine.demand)
    servicer = TaskServicer(kind, engine.handlers, engine.streams, engine.groups)
    return ServiceParts(servicer.register, [kind.service], engine.background).beside(scaler.parts)


async def nothing(*_: Any) -> dict[str, Any]:
    return {"hardware": "none"}


async def work() -> None:
    settings = load_settings()
    configure_logs(settings, "bench-worker")
    bus = await Bus.connect(settings.nats_url, "bench-worker")
    runner = InProcessRunner(nothing, settings.work_dir)
    blobs = FolderStore(settings.data_dir / "blobs")
    worker = Worker(
        Pool([NothingWork()], DEVICE, CONCURRENCY), bus, blobs, runner, timing=TaskOptions.of(settings).timing
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    tune_collector()
    await worker.run()
    await bus.close()


def serve(role: str) -> None:
    if role == "worker":
        uvloop.run(work())
    else:
        run("echo", build, {Need.DATABASE, Need.BUS})


if __name__ == "__main__":
    folder = os.environ.get("LATHE_BENCH_PROFILE")
    if folder:
        # Processor time, not time: the machine has other things to do.
        profile = cProfile.Profile(time.process_time)
        profile.runcall(serve, sys.argv[1])
        profile.dump_stats(f"{folder}/{sys.argv[1]}.prof")
    else:
        serve(sys.argv[1])
