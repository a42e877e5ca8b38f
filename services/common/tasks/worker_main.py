"""The one main of every worker process: `run_worker(kind, device, settings)`."""

from __future__ import annotations

import asyncio
import gc
import signal
from pathlib import Path

import structlog

from services.common import telemetry
from services.common.bus.connection import Bus
from services.common.bus.topology import ensure_topology
from services.common.settings import Settings
from services.common.storage import CachingStore, MeteredStore, S3ContentStore
from services.common.tasks.kind import WorkKind
from services.common.tasks.options import TaskOptions
from services.common.tasks.runner import Runner, SandboxRunner
from services.common.tasks.worker import Pool, Worker

log = structlog.get_logger(__name__)

CACHE_BYTES = 20 << 30


def run_worker(kind: WorkKind, device: str, settings: Settings, *, runner: Runner | None = None) -> None:
    """Serve tasks of `kind` for `device`, one at a time, until SIGTERM or SIGINT."""
    import uvloop

    telemetry.configure(settings, f"{kind.name}-worker")
    uvloop.run(_serve(kind, device, settings, runner))


async def _serve(kind: WorkKind, device: str, settings: Settings, runner: Runner | None) -> None:
    folder = settings.data_dir / "workers" / f"{kind.name}-{device}"
    timing = TaskOptions.of(settings).timing
    bus = await Bus.connect(settings.nats_url, f"{kind.name}-worker")
    try:
        await ensure_topology(bus, [kind.name], [device], timing)
        blobs = _blobs(settings, folder / "cache")
        runner = runner or SandboxRunner(kind.entry, kind.preload, folder / "work")
        worker = Worker(Pool(kind, device), bus, blobs, runner, timing=timing, drain_seconds=settings.drain_seconds)
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, worker.stop)
        gc.collect()
        gc.freeze()
        log.info("ready", worker=worker.name, device=device)
        await worker.run()
    finally:
        await bus.close()


def _blobs(settings: Settings, cache: Path) -> CachingStore:
    return CachingStore(MeteredStore(S3ContentStore(settings)), cache, CACHE_BYTES)
