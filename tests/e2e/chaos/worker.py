"""A worker of the chaos: the real message loop, with jobs that take a moment and make nothing."""

from __future__ import annotations

import asyncio
import random
import signal
from typing import Any

import uvloop

from services.bus.connection import Bus
from services.platform.logs import configure_logs
from services.platform.settings import load_settings
from services.tasks.api.options import TaskOptions
from services.tasks.worker.worker import Pool, Worker
from tests.in_process import InProcessRunner
from tests.integration.tasks.kit import DEVICE, EchoWork, FolderStore

CONCURRENCY = 4


async def job(*_: Any) -> dict[str, Any]:
    """Take a moment, in which the process can be killed."""
    await asyncio.sleep(random.uniform(0.05, 0.4))
    return {"hardware": "none"}


async def work() -> None:
    """Serve until SIGTERM."""
    settings = load_settings()
    configure_logs(settings, "chaos-worker")
    bus = await Bus.connect(settings.nats_url, "chaos-worker")
    runner = InProcessRunner(job, settings.data_dir / "work")
    blobs = FolderStore(settings.data_dir / "blobs")
    worker = Worker(Pool([EchoWork()], DEVICE, CONCURRENCY), bus, blobs, runner, timing=TaskOptions.of(settings).timing)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()
    await bus.close()


if __name__ == "__main__":
    uvloop.run(work())
