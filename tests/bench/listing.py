"""How long a page of 100 takes among a million model versions: `python -m tests.bench.listing [--rows N]`.

A registry process of its own over embedded servers; the table is filled by SQL; each query is asked through gRPC, one
after the other, by one client. Goal: p99 ≤ 30 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_ONNX, ListModelVersionsRequest, ModelVersion, PackageInfo
from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub
from lathe.type.v1.digest_pb2 import Digest, File

from services.database.pool import Database, migrate
from services.local.nats import NatsServer
from services.local.ports import free_port
from services.local.postgres import PostgresServer
from services.local.s3 import S3Server
from services.registry import migrations

PAGE = 100
MODELS = 1000
GOAL_MS = 30.0
WARM_UP = 5

_FILL_MODELS = """
INSERT INTO models (uid, name, parent, display_name, owner, labels, create_time, update_time, revision, search_text,
                    body, detail, last_number, version_count)
SELECT uuidv7(), 'models/bench-' || n, '', 'Bench ' || n, 'ada', '{}', now(), now(), 1, 'bench' || n, '', '', 0, 0
FROM generate_series(0, $1::int - 1) n
"""

# A body is a serialized ModelVersion: the field `name` (tag 10, one byte of length), then what all rows share.
_FILL_VERSIONS = """
INSERT INTO model_versions (uid, name, parent, display_name, owner, labels, create_time, update_time, revision,
                            search_text, body, detail, number, format, device)
SELECT uuidv7(), name, parent, display, 'user' || n % 50, jsonb_build_object('stage', 'stage-' || n % 20),
       time, time, 1, search, '\\x0a'::bytea || set_byte('\\x00', 0, length(name)) || name::bytea || $2, '',
       n / $3 + 1, n % 12, CASE n % 12 WHEN 11 THEN 'device-' || n / 12 % 9 ELSE '' END
FROM (SELECT n, 'models/bench-' || n % $3 || '/versions/' || n / $3 + 1 AS name, 'models/bench-' || n % $3 AS parent,
             'Bench ' || n % $3 || ' ' || n / $3 + 1 AS display, 'bench' || n % $3 || n / $3 + 1 AS search,
             now() - make_interval(secs => $1 - n) AS time
      FROM generate_series($4::int, $1::int - 1) n LIMIT $5) rows
"""

_QUERIES: dict[str, ListModelVersionsRequest] = {
    "newest of all": ListModelVersionsRequest(parent="models/-"),
    "of one model": ListModelVersionsRequest(parent="models/bench-7"),
    "of one format": ListModelVersionsRequest(parent="models/-", filter="format = ONNX"),
    "for one device": ListModelVersionsRequest(parent="models/-", filter="device = device-3"),
    "with a label": ListModelVersionsRequest(parent="models/-", filter="labels.stage = stage-7"),
    "by display name": ListModelVersionsRequest(parent="models/-", order_by="display_name"),
    "of two formats, newer": ListModelVersionsRequest(
        parent="models/-", filter="format = (ONNX OR PTH) AND create_time > 2020-01-01 AND -labels.stage = stage-7"
    ),
    "of one model, by number": ListModelVersionsRequest(parent="models/bench-7", order_by="number desc"),
    "search": ListModelVersionsRequest(parent="models/-", search="bench 12345"),
    "search, nothing found": ListModelVersionsRequest(parent="models/-", search="resnet"),
}


async def _fill(url: str, rows: int) -> None:
    await migrate(url, "registry", migrations)
    database = await Database.connect(url, "registry")
    common = ModelVersion(
        uid="0" * 36,
        display_name="Bench version",
        owner="ada",
        format=MODEL_FORMAT_ONNX,
        files=[File(path="model.onnx", digest=Digest(sha256="0" * 64, size_bytes=1 << 20))],
        package=PackageInfo(repo="bench", package_name="model", method="classify", version="1", device="device-1"),
        labels={"stage": "stage-1"},
        size_bytes=1 << 20,
    )
    common.create_time.GetCurrentTime()
    await database.execute(_FILL_MODELS, MODELS)
    # Indexes are built faster over all rows than row by row. Those of constraints stay.
    indexes = await database.fetch(
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'registry' AND tablename = 'model_versions' "
        "AND NOT EXISTS (SELECT FROM pg_constraint WHERE conname = indexname)"
    )
    for index in indexes:
        await database.execute(f'DROP INDEX "{index["indexname"]}"')
    step = 20_000
    left = list(range(0, rows, step))

    async def fill() -> None:
        while left:
            first = left.pop(0)
            await database.execute(_FILL_VERSIONS, rows, common.SerializeToString(), MODELS, first, step)
            print(f"\rfilled {first + step:,} of {rows:,}", end="", file=sys.stderr, flush=True)

    await asyncio.gather(fill(), fill())
    print(file=sys.stderr)
    for index in indexes:
        await database.execute(index["indexdef"])
    await database.execute("VACUUM ANALYZE model_versions")
    await database.close()


@contextmanager
def _registry(folder: Path, rows: int) -> Iterator[str]:
    """Start the servers and a registry process over a filled table; gives its address."""
    postgres, store = PostgresServer(folder / "pg", durable=False), S3Server(folder / "s3")
    nats = NatsServer(folder / "nats", durable=False)
    try:
        postgres.start()
        nats.start()
        store.start()
        asyncio.run(_fill(postgres.url, rows))
        port = free_port()
        environment = {
            **os.environ,
            "LATHE_DATABASE_URL": postgres.url,
            "LATHE_NATS_URL": nats.url,
            "LATHE_S3_ENDPOINT": store.endpoint,
            "LATHE_S3_ACCESS_KEY": store.access_key,
            "LATHE_S3_SECRET_KEY": store.secret_key,
            "LATHE_PORT": str(port),
            "LATHE_LOG_LEVEL": "warning",
        }
        process = subprocess.Popen([sys.executable, "-m", "services.registry.main"], env=environment)
        try:
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()
    finally:
        store.stop()
        nats.stop()
        postgres.stop()


async def _measure(address: str, calls: int) -> None:
    """Ask every query, and print its times. Pages follow each other if there are more."""
    print(f"| page of {PAGE} | p50 ms | p99 ms | goal {GOAL_MS:.0f} ms |\n|---|---:|---:|---|")
    async with grpc.aio.insecure_channel(address) as channel:
        stub = ModelServiceStub(channel)
        await asyncio.wait_for(channel.channel_ready(), 60)
        for title, query in _QUERIES.items():
            request = ListModelVersionsRequest()
            request.CopyFrom(query)
            request.page_size = PAGE
            times: list[float] = []
            for _ in range(calls + WARM_UP):
                started = time.perf_counter()
                page = await stub.ListModelVersions(request)
                times.append((time.perf_counter() - started) * 1000)
                request.page_token = page.next_page_token
            p50, p99 = np.percentile(times[WARM_UP:], [50, 99])
            print(f"| {title} | {p50:.1f} | {p99:.1f} | {'reached' if p99 <= GOAL_MS else 'missed'} |", flush=True)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lathe-bench-") as folder:
        started = time.perf_counter()
        with _registry(Path(folder), options.rows) as address:
            print(f"filled {options.rows:,} versions in {time.perf_counter() - started:.0f} s")
            asyncio.run(_measure(address, options.calls))


if __name__ == "__main__":
    main()
