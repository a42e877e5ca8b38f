"""A worker that only announces itself."""

from __future__ import annotations

import asyncio
import os

import nats
from nats.js.api import KeyValueConfig


async def main() -> None:
    connection = await nats.connect(os.environ["LATHE_NATS_URL"])
    bucket = await connection.jetstream().create_key_value(KeyValueConfig(bucket="WORKERS", ttl=15, direct=True))
    await bucket.put(f"fake.cpu-x86-64.worker-{os.getpid()}", b"alive")
    await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main())
