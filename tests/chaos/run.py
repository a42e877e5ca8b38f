"""One run: an installation is loaded and harmed, and looked at when it is quiet again."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from lathe_client.connection import Connection

from tests.chaos import remains
from tests.chaos.aftermath import Aftermath, look
from tests.chaos.faults import FAULTS, wreak
from tests.chaos.installation import Installation, healthy, running
from tests.chaos.load import Done, Load
from tests.chaos.restarts import Codes, alone, rolling

HEALTHY_SECONDS = 240.0
SHARE_OF_RESTARTS = 0.2
"""How much of the work is asked for while services are restarted, if any are; the rest comes fault by fault."""
SECONDS_OF_RESTARTS, SECONDS_OF_A_FAULT = 30.0, 2.5
"""In which so much work is asked for."""


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
        real: Whether one of the workers is a real one.
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
    real: bool = False
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
        left: Processes and folders that were left behind.
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
        return [*told, *self.after.wrong, *(f"{each} is left" for each in self.left)]


def run(folder: Path, plan: Plan, say: Callable[[str], None] = lambda sentence: None) -> Report:
    """Do what a plan says, in an installation of its own; `say` is told what happens.

    Raises:
        TimeoutError: Tasks or imports have not ended in time, or a service does not serve again.
    """
    before = psutil.Process().children(recursive=True)
    with remains.adopting():
        with ExitStack() as stack:
            installation = stack.enter_context(
                running(
                    folder,
                    servers=plan.servers,
                    cables="cut" in plan.kinds,
                    small_disk="disk" in plan.kinds,
                    wrong_clock="clock" in plan.kinds,
                    real=plan.real,
                )
            )
            connection = stack.enter_context(Connection(installation.addresses(), user="chaos"))
            say("all is there")
            load = Load(connection, folder)
            load.prepare()
            with background(load.watch, load.release, stop=load.stop):
                load.watching.wait()
                told, harm = _loaded(installation, load, plan, say)
                healthy(installation, HEALTHY_SECONDS)
                say("every service is healthy")
                load.quiet(plan.patience)
                load.stop_releasing()
                say("all is quiet")
                after = look(installation, connection, load)
        left = [*remains.processes(before), *remains.folders(folder)]
    return Report(plan, told, harm, load.done, after, left)


def _loaded(
    installation: Installation, load: Load, plan: Plan, say: Callable[[str], None]
) -> tuple[dict[str, Codes], Counter[str]]:
    """Restart and break what the plan says while work is asked for; return what clients were told, and the harm."""
    with ThreadPoolExecutor(max_workers=plan.faults + 1) as loading:

        def ask(share: tuple[int, int], seconds: float, seed: int) -> None:
            asked.append(loading.submit(load.run, *share, seconds, random.Random(seed)))

        def ask_for_more(fault: int) -> None:
            """Ask for what has to have been asked for when so many faults are over, so that each meets work."""
            ends = [[each * until // plan.faults for each in later] for until in (fault, fault + 1)]
            tasks, imports = (end - begin for begin, end in zip(*ends, strict=True))
            ask((tasks, imports), SECONDS_OF_A_FAULT, plan.seed + fault + 1)

        asked: list[Future[None]] = []
        early = float(not plan.faults) or (SHARE_OF_RESTARTS if plan.restarts else 0.0)
        first = round(plan.tasks * early), round(plan.imports * early)
        later = plan.tasks - first[0], plan.imports - first[1]
        ask(first, plan.restarts * SECONDS_OF_RESTARTS, plan.seed)
        try:
            told = restarted(installation, plan, say)
            kinds = {kind: FAULTS[kind] for kind in plan.kinds}
            harm = wreak(installation, kinds, plan.faults, random.Random(plan.seed), say, before=ask_for_more)
        except BaseException:
            # Those who ask would wait for ever for services that do not come back.
            load.stop()
            raise
        for each in asked:
            each.result()
    say("all is created")
    return told, harm


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
