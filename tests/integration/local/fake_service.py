"""A gRPC process that is healthy at once and has a child of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def main() -> None:
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
