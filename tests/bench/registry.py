"""A registry in a process of its own over embedded servers, for benchmarks."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from services.local.nats import NatsServer
from services.local.ports import free_port
from services.local.postgres import PostgresServer
from services.local.s3 import S3Server


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, str]]:
    """Start a database and a store in a folder; give the settings that name them."""
    postgres, store = PostgresServer(folder / "pg", durable=False), S3Server(folder / "s3")
    nats = NatsServer(folder / "nats", durable=False)
    try:
        postgres.start()
        nats.start()
        store.start()
        yield {
            "database_url": postgres.url,
            "nats_url": nats.url,
            "s3_endpoint": store.endpoint,
            "s3_access_key": store.access_key,
            "s3_secret_key": store.secret_key,
            "data_dir": str(folder / "data"),
        }
    finally:
        store.stop()
        nats.stop()
        postgres.stop()


@contextmanager
def registry(places: dict[str, str], log: Any = None) -> Iterator[tuple[str, psutil.Process]]:
    """Start a registry over servers, its log to a file; give its address, where it answers soon, and its process."""
    port = free_port()
    variables = {f"LATHE_{name.upper()}": value for name, value in places.items()}
    environment = {**os.environ, "LATHE_LOG_LEVEL": "warning", "LATHE_PORT": str(port), **variables}
    process = subprocess.Popen([sys.executable, "-m", "services.registry.main"], env=environment, stderr=log)
    try:
        yield f"127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()
