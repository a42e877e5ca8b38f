"""A gRPC process that is healthy at once and has a child of its own; with a NATS user, it makes the streams first."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from services.bus.connection import Bus
from services.bus.topology import ensure_topology


async def make_streams(url: str) -> None:
    bus = await Bus.connect(url)
    await ensure_topology(bus, [], [])
    await bus.close()


def main() -> None:
    if url := os.environ.get("LATHE_NATS_URL"):
        asyncio.run(make_streams(url))
    subprocess.Popen(["sleep", "600"])
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    server.add_insecure_port(f"{os.environ['LATHE_BIND_HOST']}:{os.environ['LATHE_PORT']}")
    server.start()
    servicer.set("", health_pb2.HealthCheckResponse.SERVING)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    server.stop(0).wait()


if __name__ == "__main__":
    main()
