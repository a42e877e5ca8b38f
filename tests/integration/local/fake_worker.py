"""A worker that only announces itself."""

from __future__ import annotations

import asyncio
import os

from services.bus.connection import Bus
from services.bus.topology import WORKERS, worker_key


async def main() -> None:
    bus = await Bus.connect(os.environ["LATHE_NATS_URL"])
    await bus.publish(f"$KV.{WORKERS}." + worker_key("fake", "cpu-x86-64", f"worker-{os.getpid()}"), b"alive")
    await asyncio.sleep(3600)


if __name__ == "__main__":
    asyncio.run(main())
