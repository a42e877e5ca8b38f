"""Half an hour of steady work: does anything grow? `python -m tests.chaos.soak --minutes 30`.

Prints what each process weighs after a warm-up, halfway and at the end, with its open files and threads. Nothing is
broken meanwhile, and in the end everything is looked at as after the chaos.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil
from lathe_client.connection import Connection
from rich.console import Console
from rich.table import Table

from tests.chaos.aftermath import Aftermath, look
from tests.chaos.installation import Installation, running
from tests.chaos.load import Load
from tests.chaos.run import background

WARM_UP = 0.2
"""Share of the time after which growth counts: pools, caches and imports are full by then."""
PATIENCE_SECONDS = 600.0
MIB = 1 << 20


class Weight(NamedTuple):
    """What a process holds: memory of its own in bytes, open files, threads."""

    memory: int
    files: int
    threads: int


def weigh(installation: Installation) -> dict[str, Weight]:
    """Return what each part holds, with the processes below it."""
    found = {}
    for name, pid in installation.pids().items():
        with contextlib.suppress(psutil.NoSuchProcess):
            root = psutil.Process(pid)
            those = [root, *root.children(recursive=True)]
            found[name] = Weight(
                sum(each.memory_full_info().uss for each in those),
                sum(each.num_fds() for each in those),
                sum(each.num_threads() for each in those),
            )
    return found


def soak(folder: Path, minutes: float, rate: float) -> tuple[list[dict[str, Weight]], Aftermath]:
    """Create so many tasks a minute, and a dataset for every ten; return the weights at three times, and what is there.

    Raises:
        TimeoutError: Tasks or imports have not ended ten minutes after the last was created.
    """
    seconds, tasks = minutes * 60, round(minutes * rate)
    with running(folder, servers=1) as installation, Connection(installation.addresses(), user="chaos") as connection:
        load = Load(connection, folder)
        load.prepare()
        with background(load.watch, load.release, stop=load.stop):
            load.watching.wait()
            loading = threading.Thread(target=load.run, args=(tasks, tasks // 10, seconds, random.Random(0)))
            loading.start()
            weights, begun = [], time.monotonic()
            for share in (WARM_UP, 0.5, 1.0):
                time.sleep(max(0.0, begun + share * seconds - time.monotonic()))
                weights.append(weigh(installation))
            loading.join()
            load.quiet(PATIENCE_SECONDS)
            load.stop_releasing()
            return weights, look(installation, connection, load)


def main() -> None:
    """Run and print the weights; the status is 1 if anything is wrong. Whether something grows is for you to see."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--rate", type=float, default=60, help="tasks per minute (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lathe-soak-") as folder:
        weights, after = soak(Path(folder), options.minutes, options.rate)
    table = Table("process", "MiB warm", "half", "end", "files warm", "end", "threads warm", "end")
    warm, half, end = weights
    for name in warm.keys() & half.keys() & end.keys():
        memory = (f"{each[name].memory / MIB:.0f}" for each in weights)
        figures = (warm[name].files, end[name].files, warm[name].threads, end[name].threads)
        table.add_row(name, *memory, *map(str, figures))
    console = Console()
    console.print(table)
    console.print(f"{ {kind: dict(states) for kind, states in after.states.items()} }; {after.blobs} blobs")
    for sentence in after.wrong:
        console.print(f"WRONG: {sentence}", markup=False)
    sys.exit(bool(after.wrong))


if __name__ == "__main__":
    main()
