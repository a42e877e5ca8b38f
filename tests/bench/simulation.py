"""A day of a large company, in minutes: `python -m tests.bench.simulation`.

Many owners send 100,000 tasks to 1,000 workers, through the real store, relay and dispatcher: replicas of a task
service, PostgreSQL and NATS, as `lathe up` runs them. Only the work is not real: a job waits. The table says how long
the tasks of whom waited, how well the workers were used, and what a task costs; the plot shows it over time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from lathe.converter.v1 import conversion_service_pb2 as pb
from rich.console import Console
from rich.table import Table

from services.database.pool import Database, migrate
from services.local.nats import NatsServer
from services.local.postgres import PostgresServer
from tests.bench.simulation_process import Burst
from tests.bench.tasks import Meter, pid_of
from tests.integration.tasks import migrations

URGENT = "urgent"


class Ran(NamedTuple):
    """A task that ended, with its times in seconds from the first start."""

    owner: str
    created: float
    started: float
    ended: float

    @property
    def waited(self) -> float:
        """Seconds, since there were workers."""
        return self.started - max(self.created, 0.0)


def planned(tasks: int, span: float) -> list[Burst]:
    """Return what is created: a flood before the workers come, then the others' bursts; `span` is in seconds."""
    dice = random.Random(0)
    bursts: list[Burst] = []
    seed = 0

    def add(owner: str, count: int, at: float, priority: int = 0) -> None:
        nonlocal seed
        if count:
            bursts.append(Burst(at, owner, count, priority, seed))
            seed += count

    def spread(crowd: str, owners: int, share: float, pieces: int, priority: int = 0) -> None:
        each = max(1, round(tasks * share / owners / pieces))
        for number in range(owners):
            for _ in range(pieces):
                add(f"{crowd}-{number:02}", each, dice.uniform(0.02, 0.75) * span, priority)

    flood = round(tasks * 0.6)
    for _ in range(16):
        add("flood", flood // 16, -1.0)
    spread("team", 8, 0.32, 8)
    spread("person", 40, 0.07, 7)
    spread("guest", 80, 0.008, 1)
    spread(URGENT, 20, 0.002, 2, priority=5)
    return sorted(bursts)


@asynccontextmanager
async def child(*words: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "tests.bench.simulation_process", *words]
    process = await asyncio.create_subprocess_exec(*command, env={**os.environ, **environment})
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def reached(database: Database, what: str, count: int, processes: Sequence[asyncio.subprocess.Process]) -> None:
    """Wait until so many tasks are `created`, or `done`."""
    begun, told = time.monotonic(), 0.0
    while True:
        (record,) = await database.fetch("SELECT count(*), count(*) FILTER (WHERE state IN (3, 4, 6)) FROM tasks")
        made, done = record
        if (made if what == "created" else done) >= count:
            return
        if time.monotonic() - told > 15:
            told = time.monotonic()
            print(f"{told - begun:5.0f} s: {made} created, {done} done", file=sys.stderr)
        if any(each.returncode is not None for each in processes):
            raise SystemExit("A process of the simulation ended by itself.")
        await asyncio.sleep(1)


async def results(database: Database) -> list[Ran]:
    """Return every task, with the time at which the first one started as zero."""
    found: list[Ran] = []
    while rows := await database.fetch(
        "SELECT owner, create_time, live FROM tasks ORDER BY uid LIMIT 10000 OFFSET $1", len(found)
    ):
        for owner, created, live in rows:
            status = pb.ConversionTask.FromString(live).status
            started, stopped = status.start_time.ToNanoseconds() / 1e9, status.end_time.ToNanoseconds() / 1e9
            found.append(Ran(owner, created.timestamp(), started, stopped))
    zero = min(each.started for each in found)
    return [Ran(each.owner, each.created - zero, each.started - zero, each.ended - zero) for each in found]


def crowd_of(owner: str) -> str:
    return owner.partition("-")[0]


def by_crowd(ran: Sequence[Ran]) -> Mapping[str, list[Ran]]:
    found: dict[str, list[Ran]] = defaultdict(list)
    for each in ran:
        found[crowd_of(each.owner)].append(each)
    return found


def busy(ran: Sequence[Ran], moments: np.ndarray) -> np.ndarray:
    """Return how many tasks run at each moment."""
    starts, ends = np.sort([each.started for each in ran]), np.sort([each.ended for each in ran])
    return np.searchsorted(starts, moments) - np.searchsorted(ends, moments)


def waiting(ran: Sequence[Ran], moments: np.ndarray) -> np.ndarray:
    """Return how many tasks wait at each moment."""
    created, starts = np.sort([each.created for each in ran]), np.sort([each.started for each in ran])
    return np.searchsorted(created, moments) - np.searchsorted(starts, moments)


def loaded(ran: Sequence[Ran], workers: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the moments, ten each second, at which as many tasks wait as there are workers, and how many run then."""
    moments = np.arange(0, max(each.ended for each in ran), 0.1)
    full = waiting(ran, moments) >= workers
    return moments[full], busy(ran, moments)[full]


def print_tables(ran: Sequence[Ran], workers: int, spent: Mapping[str, float], wall: float) -> None:
    table = Table("whose", "owners", "tasks", "wait p50", "p90", "p99", "longest", title="How long tasks waited")
    for crowd, tasks in by_crowd(ran).items():
        waits = sorted(each.waited for each in tasks)
        cuts = statistics.quantiles(waits, n=100) if len(waits) > 1 else waits * 99
        figures = (f"{value:.2f} s" for value in (cuts[49], cuts[89], cuts[98], waits[-1]))
        table.add_row(crowd, str(len({each.owner for each in tasks})), str(len(tasks)), *figures)
    Console().print(table)
    moments, running = loaded(ran, workers)
    table = Table("what", "measured", title=f"{len(ran)} tasks, {workers} workers")
    if len(moments):
        table.add_row("utilisation while as many tasks wait as there are workers", f"{running.mean() / workers:.1%}")
        inside = sum(moments[0] <= each.ended <= moments[-1] for each in ran)
        table.add_row("tasks per second in that time", f"{inside / max(moments[-1] - moments[0], 0.1):.0f}")
    table.add_row("first started → last done", f"{max(each.ended for each in ran):.0f} s")
    parts = ", ".join(f"{name} {value / len(ran) * 1e3:.2f}" for name, value in spent.items())
    table.add_row("processor time per task", f"{sum(spent.values()) / len(ran) * 1e3:.2f} ms ({parts})")
    table.add_row("processors in use, of all and of ours", f"{os.cpu_count()}, {sum(spent.values()) / wall:.2f}")
    Console().print(table)


def plot(ran: Sequence[Ran], workers: int, path: Path) -> None:
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    figure, (top, middle, bottom) = plt.subplots(3, 1, figsize=(10, 11), layout="constrained")
    crowds = by_crowd(ran)
    moments = np.arange(0, max(each.ended for each in ran) + 1, 1.0)
    top.stackplot(moments, [busy(tasks, moments) for tasks in crowds.values()], labels=list(crowds))
    top.axhline(workers, color="black", linewidth=0.8)
    top.set(title="Tasks that run, by crowd; the line is the number of workers", xlabel="seconds", ylabel="tasks")
    top.legend(loc="upper right")
    for crowd, tasks in crowds.items():
        middle.plot(moments, waiting(tasks, moments), label=crowd)
    middle.set(title="Tasks that wait, by crowd", xlabel="seconds", ylabel="tasks", yscale="symlog")
    middle.legend(loc="upper right")
    for crowd, tasks in crowds.items():
        bottom.scatter([each.created for each in tasks], [each.waited for each in tasks], s=2, label=crowd)
    bottom.set(title="How long each task waited", xlabel="created, seconds", ylabel="seconds", yscale="symlog")
    bottom.legend(loc="upper right", markerscale=5)
    figure.savefig(path, dpi=100)


async def simulate(options: argparse.Namespace, folder: Path) -> None:
    bursts = planned(options.tasks, options.tasks * options.seconds / options.workers)
    count = sum(burst.many for burst in bursts)
    plan = folder / "plan.json"
    plan.write_text(json.dumps(bursts))
    begun = time.monotonic()
    postgres, nats = PostgresServer(folder / "postgres"), NatsServer(folder / "nats")
    postgres.start()
    nats.start()
    try:
        url = postgres.database_url("lathe")
        await migrate(url, "echo", migrations)
        environment = {
            "LATHE_DATABASE_URL": url,
            "LATHE_NATS_URL": nats.url,
            "LATHE_DATA_DIR": str(folder),
            "LATHE_LOG_LEVEL": "warning",
        }
        async with AsyncExitStack() as stack:
            replicas = [
                await stack.enter_async_context(
                    child("api", str(plan), str(number), str(options.replicas), **environment)
                )
                for number in range(options.replicas)
            ]
            database = await Database.connect(url, "echo", max_size=2)
            await reached(database, "created", sum(burst.many for burst in bursts if burst.at < 0), replicas)
            words = ["workers", str(options.workers), str(options.seconds)]
            workers = await stack.enter_async_context(child(*words, **environment))
            for each in replicas:
                each.send_signal(signal.SIGUSR1)
            await reached(database, "done", count, [workers, *replicas])
            wall = time.monotonic() - begun
            pids = {f"api {number}": each.pid for number, each in enumerate(replicas, 1)}
            spent = Meter({**pids, "workers": workers.pid, "postgres": pid_of(postgres), "nats": pid_of(nats)}).read()
            ran = await results(database)
            failed = await database.fetchval("SELECT count(*) FROM tasks WHERE state <> 3")
            twice = await database.fetchval("SELECT count(*) FROM tasks WHERE dispatches > 1")
            left = await database.fetchval("SELECT count(*) FROM queue")
            await database.close()
        print(f"tasks that did not succeed: {failed}; that were sent again: {twice}; rows left in the queue: {left}")
        print_tables(ran, options.workers, spent, wall)
        plot(ran, options.workers, options.plot)
        print(f"The plot is {options.plot}.")
    finally:
        nats.stop()
        postgres.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=3.0, help="mean duration of a task")
    parser.add_argument("--replicas", type=int, default=2)
    parser.add_argument("--plot", type=Path, default=Path("simulation.png"))
    options = parser.parse_args()
    import uvloop

    with tempfile.TemporaryDirectory(prefix="simulation-") as folder:
        uvloop.run(simulate(options, Path(folder)))


if __name__ == "__main__":
    main()
