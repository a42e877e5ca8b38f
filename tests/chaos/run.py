"""One run: an installation is loaded and harmed, and looked at when it is quiet again."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from lathe_client.connection import Connection

from tests.chaos.aftermath import Aftermath, look
from tests.chaos.faults import FAULTS, wreak
from tests.chaos.installation import Installation, healthy, running
from tests.chaos.load import Done, Load
from tests.chaos.restarts import Codes, alone, rolling

HEALTHY_SECONDS = 120.0
SECONDS_OF_A_FAULT, SECONDS_OF_A_RESTART = 2.5, 30.0
"""About the time from one to the next; of restarts, of those of all services."""


@dataclass(frozen=True)
class Plan:
    """What a run does.

    Attributes:
        tasks: Tasks that are created, a quarter of each kind.
        imports: Datasets that are imported.
        faults: How often something is broken.
        kinds: Names of faults, of `FAULTS`.
        restarts: How often each service is ended by SIGTERM and started again, before anything is broken; and, if
            `replicas` names it, once more for each of two replicas.
        replicas: Services.
        servers: How many NATS servers there are.
        seed: Of all dice.
        patience: Seconds in which all has to end, once nothing is broken any more.
    """

    tasks: int = 500
    imports: int = 50
    faults: int = 60
    kinds: Collection[str] = ("kill", "stop")
    restarts: int = 0
    replicas: Collection[str] = ()
    servers: int = 3
    seed: int = 0
    patience: float = 600.0


@dataclass(frozen=True)
class Report:
    """What came of it.

    Attributes:
        plan: What was done.
        restarts: How services were restarted → what clients were told meanwhile.
        harm: Fault and part → how often.
        done: What the services acknowledged, and with which codes they answered.
        after: What was there in the end.
        left: Processes that were left behind.
    """

    plan: Plan
    restarts: dict[str, Codes]
    harm: Counter[str]
    done: Done
    after: Aftermath
    left: list[str]

    @property
    def wrong(self) -> list[str]:
        """A sentence for each thing that is not as it has to be."""
        told = [each for codes in self.restarts.values() for each in codes.sentences]
        return [*told, *self.after.wrong, *(f"the process {each} is left" for each in self.left)]


def run(folder: Path, plan: Plan, say: Callable[[str], None] = lambda sentence: None) -> Report:
    """Do what a plan says, in an installation of its own; `say` is told what happens.

    Raises:
        TimeoutError: Tasks or imports have not ended in time, or a service does not serve again.
    """
    with ExitStack() as stack:
        installation = stack.enter_context(
            running(
                folder,
                servers=plan.servers,
                cables="cut" in plan.kinds,
                small_disk="disk" in plan.kinds,
                wrong_clock="clock" in plan.kinds,
            )
        )
        connection = stack.enter_context(Connection(installation.addresses(), user="chaos"))
        say("all is there")
        load = Load(connection, folder)
        load.prepare()
        family = installation.family()
        with background(load.watch, load.release, stop=load.stop):
            load.watching.wait()
            seconds = plan.faults * SECONDS_OF_A_FAULT + plan.restarts * SECONDS_OF_A_RESTART
            loading = threading.Thread(
                target=load.run, args=(plan.tasks, plan.imports, seconds, random.Random(plan.seed))
            )
            loading.start()
            told = restarted(installation, plan, say)
            dice = random.Random(plan.seed)
            harm = wreak(installation, {kind: FAULTS[kind] for kind in plan.kinds}, plan.faults, dice, say)
            loading.join()
            say("all is created")
            healthy(installation, HEALTHY_SECONDS)
            say("every service is healthy")
            load.quiet(plan.patience)
            load.stop_releasing()
            say("all is quiet")
            after = look(installation, connection, load)
        family += installation.family()
    left = [each.name() for each in psutil.wait_procs(family, timeout=10)[1]]
    return Report(plan, told, harm, load.done, after, left)


def restarted(installation: Installation, plan: Plan, say: Callable[[str], None]) -> dict[str, Codes]:
    """Restart what the plan says, and return what clients were told meanwhile."""
    if not plan.restarts:
        return {}
    told = {"each alone": alone(installation, plan.restarts)}
    say("every service has been restarted")
    if plan.replicas:
        told["one of two replicas"] = rolling(installation, plan.restarts, plan.replicas)
        say("every replica has been restarted")
    return told


@contextmanager
def background(*functions: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    """Run functions in threads; `stop` has to end them."""
    threads = [threading.Thread(target=each) for each in functions]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        stop()
        for each in threads:
            each.join()
