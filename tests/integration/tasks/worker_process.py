"""A worker of the test kind as a process of its own, to be killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from services.bus.connection import Bus
from services.tasks.worker.presence import Pool
from services.tasks.worker.worker import Worker
from tests.in_process import InProcessRunner
from tests.integration.tasks.kit import DEVICE, PROMPT, EchoWork, FolderStore, Jobs


async def main(nats_url: str, folder: Path) -> None:
    bus = await Bus.connect(nats_url, "victim")
    runner = InProcessRunner(Jobs().run, folder / "victim")
    await Worker(Pool([EchoWork()], DEVICE), bus, FolderStore(folder / "blobs"), runner, timing=PROMPT.timing).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
