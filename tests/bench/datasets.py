"""How long pages and selections of a dataset of a million items take: `python -m tests.bench.datasets [--items N]`.

A registry process of its own over embedded servers; the index is written by the engine and stored; each call is asked
through gRPC, one after the other, by one client. Pages begin at random items.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import psutil
from lathe.internal.v1.registry_service_pb2 import SelectDatasetItemsRequest
from lathe.internal.v1.registry_service_pb2_grpc import RegistryServiceStub
from lathe.registry.v1.dataset_service_pb2 import DATASET_STATE_READY, Dataset, ListDatasetItemsRequest
from lathe.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub

from engines.datasets.index import write_index
from engines.datasets.items import Box, Item
from services.database.pool import Database, migrate
from services.platform.settings import Settings
from services.registry import migrations
from services.registry.kinds import DATASETS
from services.resources.paging import Position, encode_token
from services.resources.store import ResourceStore
from services.storage import S3ContentStore
from tests.bench.registry import registry, servers

PAGE = 100
WARM_UP = 3
_SCENES = ("day", "night", "dusk", "rain", "snow")


def items(count: int) -> Iterator[Item]:
    """Yield items as a street dataset has them: a class, two boxes, two attributes."""
    for number in range(count):
        yield Item(
            path=f"images/{number // 1000:04d}/{number:09d}.jpg",
            sha256=hashlib.sha256(str(number).encode()).hexdigest(),
            size_bytes=100_000 + number % 5000,
            width=1280,
            height=720,
            classifications={"weather": f"w{number % 12}"},
            boxes=tuple(
                Box(f"class {(number + each) % 80}", 10.5 * each, 20.25, 100.0 + number % 50, 80.0) for each in range(2)
            ),
            attributes={"scene": _SCENES[number % 5], "camera": f"camera {number % 997}"},
        )


async def _fill(settings: Settings, folder: Path, count: int) -> Dataset:
    started = time.perf_counter()
    summary = write_index(folder / "index.parquet", items(count))
    size = (folder / "index.parquet").stat().st_size
    print(f"index of {count:,} items: {time.perf_counter() - started:.0f} s, {size / 2**20:.0f} MiB")
    await migrate(settings.database_url, "registry", migrations)
    database = await Database.connect(settings.database_url, "registry")
    dataset = Dataset(display_name="Bench", state=DATASET_STATE_READY, item_count=summary.count)
    dataset.index.CopyFrom(await S3ContentStore(settings).put_file(folder / "index.parquet"))
    made = await ResourceStore(database, DATASETS).create(dataset)
    await database.close()
    return made


async def _timed(title: str, calls: int, call: Callable[[], Awaitable[object]]) -> None:
    times: list[float] = []
    for _ in range(calls + WARM_UP):
        started = time.perf_counter()
        await call()
        times.append((time.perf_counter() - started) * 1000)
    p50, p99 = np.percentile(times[WARM_UP:], [50, 99])
    print(f"| {title} | {times[0]:.1f} | {p50:.1f} | {p99:.1f} |", flush=True)


async def _measure(address: str, dataset: Dataset, calls: int, process: psutil.Process) -> None:
    print("| call | first ms | p50 ms | p99 ms |\n|---|---:|---:|---:|")
    chance = random.Random(0)
    async with grpc.aio.insecure_channel(address) as channel:
        stub, internal = DatasetServiceStub(channel), RegistryServiceStub(channel)
        await asyncio.wait_for(channel.channel_ready(), 60)

        def page(wanted: str = "", *, size: int = PAGE) -> Callable[[], Awaitable[object]]:
            query = [dataset.uid, dataset.index.sha256, wanted]

            def ask() -> Awaitable[object]:
                token = encode_token(Position((chance.randrange(dataset.item_count),)), query)
                request = ListDatasetItemsRequest(parent=dataset.name, page_size=size, page_token=token, filter=wanted)
                answer: Awaitable[object] = stub.ListDatasetItems(request)
                return answer

            return ask

        def select(count: int) -> Callable[[], Awaitable[object]]:
            def ask() -> Awaitable[object]:
                request = SelectDatasetItemsRequest(name=dataset.name, count=count, seed=chance.randrange(1 << 30))
                answer: Awaitable[object] = internal.SelectDatasetItems(request)
                return answer

            return ask

        await _timed("page of 100", calls, page())
        await _timed("page of 1000", calls, page(size=1000))
        await _timed("page of 100, one class of 12", calls, page("classifications.weather = w7"))
        await _timed("page of 100, one camera of 997", calls // 3, page('attributes.camera = "camera 7"'))
        await _timed("page of 100, boxes of one class of 80", calls, page('label:"class 7"'))
        await _timed("page of 100, nothing matches", calls // 10, page("attributes.camera = none"))
        await _timed("selection of 128", calls // 3, select(128))
        await _timed("selection of 10 000", calls // 10, select(10_000))
    print(f"the registry took {process.memory_info().rss / 2**20:.0f} MiB")


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--calls", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lathe-bench-") as folder, servers(Path(folder)) as places:
        dataset = asyncio.run(_fill(Settings.model_validate(places), Path(folder), options.items))
        with registry(places) as (address, process):
            asyncio.run(_measure(address, dataset, options.calls, process))


if __name__ == "__main__":
    main()
