"""What importing COCO annotations takes: `python -m tests.bench.imports [--images N] [--boxes N] [--distinct N]`.

One archive with a COCO file and its images goes three ways, one after the other:

| step | what it is |
|---|---|
| engine | `engines.datasets.dataset_import` in the sandboxed child: unpack, read, decode every image, write the index |
| index | the index of the items that were found, written alone, in this process |
| service | upload through the registry, then CreateDataset → READY: the engine, its child's start, and storing |

Images are small, so that annotations weigh; paths share the bytes of one image. `--distinct` says how many images
there are, each of which the store gets once. Memory is the peak of one process.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import grpc
import numpy as np
from lathe.registry.v1.dataset_service_pb2 import (
    DATASET_STATE_IMPORTING,
    DATASET_STATE_READY,
    CreateDatasetRequest,
    Dataset,
    GetDatasetRequest,
)
from lathe_client.connection import Connection
from PIL import Image

from engines.datasets.index import read_items, write_index
from services.cli.transfers import upload_files
from services.registry.datasets import job
from tests.bench import child
from tests.bench.registry import registry, servers

WIDTH, HEIGHT = 64, 48
LABELS = 80
PRELOAD = ("pyarrow.parquet", "PIL.Image")
_POLL_SECONDS = 0.1


def write_archive(path: Path, images: int, boxes: int, distinct: int) -> int:
    """Write the archive, stored without compression; return the bytes of the COCO file."""
    contents = [_png(number) for number in range(min(distinct, images))]
    names = [f"images/{number:09d}.png" for number in range(images)]
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, contents[number % len(contents)])
        with archive.open("instances.json", "w", force_zip64=True) as file:
            return sum(file.write(text.encode()) for text in _coco(names, boxes))


def _png(number: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (number % 256, number // 256 % 256, number // 65536)).save(buffer, "PNG")
    return buffer.getvalue()


def _coco(names: list[str], boxes: int) -> Iterator[str]:
    """Yield a COCO file in parts, with polygons as such files have them."""
    rng = np.random.default_rng(0)
    yield '{"images": ['
    for number, name in enumerate(names):
        image = {"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT, "license": 1}
        yield (", " if number else "") + json.dumps(image)
    yield '], "annotations": ['
    for number in range(len(names)):
        corners = rng.uniform(0, 0.5, (boxes, 2)) * (WIDTH, HEIGHT)
        sizes = rng.uniform(0.1, 0.5, (boxes, 2)) * (WIDTH, HEIGHT)
        for place, ((x, y), (width, height)) in enumerate(zip(corners.round(2), sizes.round(2), strict=True)):
            annotation = {
                "id": number * boxes + place,
                "image_id": number,
                "category_id": (number + place) % LABELS,
                "segmentation": [[float(x), float(y), float(x + width), float(y), float(x + width), float(y + height)]],
                "area": float(width * height / 2),
                "bbox": [float(x), float(y), float(width), float(height)],
                "iscrowd": 0,
            }
            yield (", " if number or place else "") + json.dumps(annotation)
    labels = [{"id": number, "name": f"class {number}"} for number in range(LABELS)]
    yield f'], "categories": {json.dumps(labels)}}}'


def by_engine(archive: Path, folder: Path, timeout_seconds: float) -> None:
    """Import in the sandboxed child, then write the index alone; print both rows."""
    files = folder / "work/files"
    files.mkdir(parents=True)
    os.link(archive, files / archive.name)
    request = {"folder": "files", "accept_mismatches": True}
    measured = child.run(job.IMPORT, request, folder / "work", PRELOAD, timeout_seconds)
    report = measured.result["report"]
    found = f"{report['items']:,} items, {report['boxes']:,} boxes"
    _row("engine: import", measured.seconds, f"{_mib(measured.peak_bytes)} ({_mib(measured.imports_bytes)})", found)
    items = read_items(folder / "work/out/index.parquet")
    seconds = _seconds(lambda: write_index(folder / "index.parquet", items))
    _row("engine: index alone", seconds, "", f"{_mib((folder / 'index.parquet').stat().st_size)} MiB on disk")


def by_service(archive: Path, folder: Path, timeout_seconds: float) -> None:
    """Import through a registry, and print its rows."""
    with (
        servers(folder) as places,
        registry(places) as (address, process),
        Connection({"registry": address}, user="bench") as connection,
    ):
        grpc.channel_ready_future(grpc.insecure_channel(address)).result(60)
        began = time.perf_counter()
        uploaded = upload_files(connection, [archive])
        _row("service: upload", time.perf_counter() - began, "", f"{_mib(archive.stat().st_size)} MiB")
        own = child.Peak(process.pid, lambda each: each.pid == process.pid)
        below = child.Peak(process.pid, lambda each: each.pid != process.pid)
        with _watching(own, below):
            began = time.perf_counter()
            dataset = Dataset(display_name="Bench", files=uploaded)
            made = connection.datasets.CreateDataset(CreateDatasetRequest(dataset=dataset, accept_mismatches=True))
            while made.state == DATASET_STATE_IMPORTING and time.perf_counter() - began < timeout_seconds:
                time.sleep(_POLL_SECONDS)
                made = connection.datasets.GetDataset(GetDatasetRequest(name=made.name))
            seconds = time.perf_counter() - began
        said = "READY" if made.state == DATASET_STATE_READY else f"not READY: {made.failure.message or made.progress}"
        memory = f"registry {_mib(own.bytes)}, its child {_mib(below.bytes)}"
        _row("service: CreateDataset → READY", seconds, memory, f"{made.item_count:,} items, {said}")


@contextmanager
def _watching(*peaks: child.Peak) -> Iterator[None]:
    over = Event()

    def look() -> None:
        while not over.wait(_POLL_SECONDS):
            for peak in peaks:
                peak.look()

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _seconds(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _mib(size: int) -> str:
    return f"{size / child.MIB:.0f}"


def _row(step: str, seconds: float, memory: str, found: str) -> None:
    print(f"| {step} | {seconds:.1f} | {memory} | {found} |", flush=True)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--boxes", type=int, default=7, help="boxes of one image; COCO itself has 7.3")
    parser.add_argument("--distinct", type=int, default=10_000, help="images with bytes of their own")
    parser.add_argument("--timeout", type=float, default=600.0, help="longest time of one step, in seconds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lathe-bench-") as name:
        folder = Path(name)
        archive = folder / "scenes.zip"
        size = write_archive(archive, options.images, options.boxes, options.distinct)
        print(f"{options.images:,} images, {options.distinct:,} of them distinct; a COCO file of {_mib(size)} MiB\n")
        print("| step | s | peak MiB (imports alone) | found |\n|---|---:|---|---|", flush=True)
        by_engine(archive, folder, options.timeout)
        by_service(archive, folder, options.timeout)


if __name__ == "__main__":
    main()
