"""What goes wrong: processes are killed and stopped, the leader of NATS is lost. All by dice with a seed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import nats
import psutil

from services.bus.topology import CHANGES, EVENTS, TASKS
from tests.chaos.clocks import set_wrong
from tests.chaos.installation import Installation, quietly

Fault = Callable[[Installation, random.Random], str]
"""Does its harm, undoes it if it passes, and returns to what."""
LONGEST_STOP, LONGEST_CUT = 4.0, 8.0
LARGEST_JUMP = 600
"""In seconds. S3 refuses requests whose time is a quarter of an hour away from its own."""


def kill(installation: Installation, dice: random.Random) -> str:
    """Kill a process of any part."""
    name, pid = dice.choice(sorted(installation.pids().items()))
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return name


def stop(installation: Installation, dice: random.Random) -> str:
    """Stop a part with all its processes for a while: its connections stay, and nobody answers."""
    name, pid = dice.choice(sorted(installation.pids().items()))
    seconds = dice.uniform(0.5, LONGEST_STOP)
    with contextlib.suppress(psutil.NoSuchProcess), frozen(pid):
        time.sleep(seconds)
    return name


def lose_leader(installation: Installation, dice: random.Random) -> str:
    """Kill the NATS server that leads a stream."""
    stream = dice.choice([TASKS, EVENTS, CHANGES])
    with contextlib.suppress(Exception):  # there may be no leader, or nobody to ask, just now
        leader = asyncio.run(_leader(installation.cluster.url, stream))
        if pid := installation.cluster.servers[leader].pid:  # 0 would be this process with all its family
            os.kill(pid, signal.SIGKILL)
            return leader
    return "no leader"


def cut(installation: Installation, dice: random.Random) -> str:
    """Cut a cable for a while, and mend it."""
    name, cable = dice.choice(sorted(installation.cables.items(), key=lambda pair: pair[0]))
    cable.cut()
    time.sleep(dice.uniform(2.0, LONGEST_CUT))
    cable.mend()
    return name


def fill_disk(installation: Installation, dice: random.Random) -> str:
    """Fill the disk of S3 for a while, and empty it again."""
    ballast = installation.folder / "s3" / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
    time.sleep(dice.uniform(2.0, LONGEST_CUT))
    ballast.unlink(missing_ok=True)
    return "s3"


def set_clock(installation: Installation, dice: random.Random) -> str:
    """Set the clocks of services and workers forward or back for a while, then right."""
    assert installation.clock is not None
    seconds = dice.choice([-1, 1]) * dice.randrange(5, LARGEST_JUMP)
    set_wrong(installation.clock, seconds)
    time.sleep(dice.uniform(2.0, LONGEST_CUT))
    set_wrong(installation.clock, 0)
    return "forward" if seconds > 0 else "back"


FAULTS: Mapping[str, Fault] = {
    "kill": kill,
    "stop": stop,
    "leader": lose_leader,
    "cut": cut,
    "disk": fill_disk,
    "clock": set_clock,
}
WEIGHTS = {"kill": 6, "stop": 3}
"""How many times more often than others these are done."""


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process and those below it within the block."""
    root = psutil.Process(pid)
    family = [root, *root.children(recursive=True)]
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.suspend()
    try:
        yield
    finally:
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.resume()


async def _leader(url: str, stream: str) -> str:
    connection = await nats.connect(url.split(","), connect_timeout=1, allow_reconnect=False, error_cb=quietly)
    try:
        cluster = (await connection.jetstream().stream_info(stream)).cluster
        return str(cluster.leader) if cluster else ""
    finally:
        await connection.close()


def wreak(
    installation: Installation,
    faults: Mapping[str, Fault],
    count: int,
    dice: random.Random,
    say: Callable[[str], None],
    *,
    before: Callable[[int], None] = lambda number: None,
) -> Counter[str]:
    """Do harm so many times, with one to three seconds between; return what was done to whom, and how often.

    `before` is called with the number of each fault, from 0, as those seconds begin.
    """
    done: Counter[str] = Counter()
    for number in range(count):
        before(number)
        time.sleep(dice.uniform(1.0, 3.0))
        names = sorted(faults)
        (name,) = dice.choices(names, [WEIGHTS.get(each, 1) for each in names])
        harm = f"{name} {faults[name](installation, dice)}"
        say(harm)
        done[harm] += 1
    return done
