"""How long `lathe up` takes, what its processes weigh, and what the suite adds: `python -m tests.bench.stack`.

Starts the whole suite in a fresh folder and again on the same folder; then, on the running suite, converts the demo's
network several times (never from the cache), and asks for the same once more (always from the cache). Goals: all
healthy ≤ 10 s; the API processes ≤ 600 MB; the suite ≤ 1 s or 5 % over the engine; a cache hit ≤ 5 ms.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from lathe.converter.v1.conversion_service_pb2 import (
    ConversionSpec,
    ConversionTask,
    CreateConversionTaskRequest,
    WatchConversionTaskRequest,
)
from lathe_client.connection import Connection
from rich.console import Console
from rich.table import Table

from services.cli.demo import steps
from services.cli.demo.training import train
from services.local.roster import SERVICES
from services.local.stack import Stack

MIB = 1 << 20
Rows = list[tuple[str, str, str]]


def seconds(action: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def start_and_weigh(folder: Path, rows: Rows) -> Stack:
    """Start the suite twice on one folder; return it running."""
    first = Stack(folder)
    rows.append(("lathe up, first start, all healthy", f"{seconds(first.start):.1f} s", "≤ 10 s"))
    first.stop()
    stack = Stack(folder)
    rows.append(("lathe up, on existing state", f"{seconds(stack.start):.1f} s", "≤ 10 s"))
    names = [entry.name for entry in SERVICES]
    infos = {name: psutil.Process(stack.processes[name].pid).memory_full_info() for name in names}
    for name, info in infos.items():
        rows.append(
            (f"memory of {name}, resident (proportional)", f"{info.rss / MIB:.0f} ({info.pss / MIB:.0f}) MiB", "")
        )
    rss, pss = (sum(getattr(info, field) for info in infos.values()) / MIB for field in ("rss", "pss"))
    rows.append((f"memory of {len(names)} API processes", f"{rss:.0f} ({pss:.0f}) MiB", "six ≤ 600 MB"))
    return stack


def convert_repeatedly(connection: Connection, folder: Path, rounds: int, rows: Rows) -> None:
    """Measure created → SUCCEEDED against the time that the engine itself took, and a cache hit."""
    checkpoint = train(folder, lambda _epoch, _loss: None).checkpoint
    architecture = steps.register_architecture(connection, "digits_cnn.py", "DigitsCNN")
    template = steps.create_template(connection, "digits_template.yaml", "bench-digits")
    version = steps.push(connection, "bench-digits", checkpoint, architecture.name)
    spec = ConversionSpec(model_version=version.name, template=template.name)

    def run(*, skip_cache: bool) -> tuple[float, Any]:
        begun = time.perf_counter()
        request = CreateConversionTaskRequest(task=ConversionTask(spec=spec), skip_cache=skip_cache)
        task = connection.conversions.CreateConversionTask(request)
        if not task.status.HasField("end_time"):
            *_, task = connection.conversions.WatchConversionTask(WatchConversionTaskRequest(name=task.name))
        return time.perf_counter() - begun, task

    totals, engines = [], []
    for _ in range(rounds):
        total, task = run(skip_cache=True)
        totals.append(total)
        engines.append(engine_seconds(connection, task.name))
        time.sleep(5)  # a warm child is ready again, as on a system that is not overrun
    added = statistics.median(total - engine for total, engine in zip(totals, engines, strict=True))
    share = statistics.median(total / engine for total, engine in zip(totals, engines, strict=True))
    rows.append(("conversion, created → SUCCEEDED", f"{statistics.median(totals):.2f} s", ""))
    rows.append(("…of which the suite adds to the engine", f"{added:.2f} s ({share:.3f}×)", "≤ 1 s or 1.05×"))
    hits = [run(skip_cache=False)[0] * 1000 for _ in range(100)]
    p50, p99 = statistics.median(hits), sorted(hits)[98]
    rows.append(("cache hit, created → SUCCEEDED", f"p50 {p50:.1f}, p99 {p99:.1f} ms", "p50 ≤ 5 ms"))


def engine_seconds(connection: Connection, task: str) -> float:
    """Return how long the engine ran, from the first to the last line of the task's log."""
    from lathe.converter.v1.conversion_service_pb2 import StreamConversionTaskLogsRequest

    batches = connection.conversions.StreamConversionTaskLogs(StreamConversionTaskLogsRequest(name=task))
    lines = [line for batch in batches for line in batch.lines]
    return float((lines[-1].time.ToNanoseconds() - lines[0].time.ToNanoseconds()) / 1e9)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows: Rows = []
    with tempfile.TemporaryDirectory(prefix="lathe-bench-") as folder:
        stack = start_and_weigh(Path(folder, "state"), rows)
        try:
            addresses = {entry.name: stack.address(entry.name) for entry in SERVICES}
            with Connection(addresses, user="bench") as connection:
                convert_repeatedly(connection, Path(folder), options.rounds, rows)
        finally:
            stack.stop()
    table = Table("what", "measured", "goal", title="The suite on this machine")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


if __name__ == "__main__":
    main()
