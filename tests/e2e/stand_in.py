"""A stand-in for a machine that is not the device: a real worker whose runtimes say that forms run on the device alone.

It works in this process, without the sandbox, once the file that it is given exists.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

import uvloop

from engines.api import conversion
from engines.runtimes import Where
from engines.runtimes.host import HostRuntime
from engines.sandbox import Progress, Reporter
from services.bus.connection import Bus
from services.converter.work import ConversionWorkKind
from services.platform.settings import load_settings
from services.storage import S3ContentStore
from services.tasks.worker.presence import Pool
from services.tasks.worker.runner import OnLog, OnProgress, Slot
from services.tasks.worker.worker import Worker
from tests.in_process import InProcessRunner


async def serve(go: Path) -> None:
    """Serve until SIGTERM."""
    loop, settings = asyncio.get_running_loop(), load_settings()

    async def build(request: dict[str, Any], slot: Slot, on_progress: OnProgress, _log: OnLog) -> dict[str, Any]:
        while not go.exists():
            await asyncio.sleep(0.05)

        def told(progress: Progress) -> None:
            loop.call_soon_threadsafe(on_progress, progress)

        return await asyncio.to_thread(conversion.run, request, slot.workdir, Reporter(told))

    bus = await Bus.connect(settings.nats_url, "stand-in")
    runner = InProcessRunner(build, go.parent / "work")
    pool = Pool([ConversionWorkKind(settings.device)], settings.device)
    worker = Worker(pool, bus, S3ContentStore(settings), runner, name="stand-in")
    loop.add_signal_handler(signal.SIGTERM, worker.stop)
    await worker.run()
    await bus.close()


if __name__ == "__main__":
    HostRuntime.where = lambda *_: Where.DEVICE  # type: ignore[method-assign]
    uvloop.run(serve(Path(sys.argv[1])))
