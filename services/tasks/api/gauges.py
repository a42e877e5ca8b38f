"""The queues as Prometheus sees them. The tables are read when somebody scrapes, and not otherwise.

Every replica tells the same, so take the `max` over replicas before anything is added up.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import asyncpg
import structlog
from prometheus_client.core import REGISTRY, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from services.tasks.api.workers import WorkersView
from services.tasks.state.standing import Load, Standing

log = structlog.get_logger(__name__)

TOP_OWNERS = 10
OTHERS = "(others)"
"""The label of all owners but the TOP_OWNERS of a kind, so that the number of owners does not become that of series."""

_SCRAPE_SECONDS = 5.0


@dataclass
class Figures:
    """The queues of one kind: load by device, and by device and owner; workers and their slots by device."""

    devices: dict[str, Load] = field(default_factory=dict)
    owners: dict[tuple[str, str], Load] = field(default_factory=dict)
    workers: dict[str, int] = field(default_factory=dict)
    slots: dict[str, int] = field(default_factory=dict)


Ask = Callable[[], Coroutine[None, None, Figures]]


class Gauges:
    """Tells the figures of one kind to whoever scrapes this process."""

    def __init__(self, kind: str, standing: Standing, workers: WorkersView) -> None:
        self._kind = kind
        self._standing = standing
        self._workers = workers
        # A device that was ever seen stays, with zeros: a series that ends looks like one that is not known.
        self._seen: set[str] = set()

    async def run(self) -> None:
        """Answer scrapes until cancelled."""
        leave = _COLLECTOR.join(self._kind, self.figures)
        try:
            await asyncio.Event().wait()
        finally:
            leave()

    async def figures(self) -> Figures:
        """Return the figures as they are now."""
        loads = await self._standing.loads()
        live = self._workers.live()
        self._seen.update(device for device, _ in loads)
        self._seen.update(worker.device for worker in live)
        found = Figures({device: Load() for device in self._seen})
        for (device, _), load in loads.items():
            found.devices[device] = found.devices[device].plus(load)
        found.owners = by_top_owners(loads)
        for device in self._seen:
            found.workers[device] = len(self._workers.serving(device))
            found.slots[device] = self._workers.slots(device)
        return found


def by_top_owners(loads: Mapping[tuple[str, str], Load]) -> dict[tuple[str, str], Load]:
    """Return load by device and owner, with all but the TOP_OWNERS who have most taken together as OTHERS."""
    tasks: dict[str, int] = {}
    for (_, owner), load in loads.items():
        tasks[owner] = tasks.get(owner, 0) + load.waiting + load.running
    top = set(sorted(tasks, key=lambda owner: (-tasks[owner], owner))[:TOP_OWNERS])
    found: dict[tuple[str, str], Load] = {}
    for (device, owner), load in loads.items():
        key = (device, owner if owner in top else OTHERS)
        found[key] = found.get(key, Load()).plus(load)
    return found


class _QueueCollector(Collector):
    """One for the process, which may serve several kinds. Scrapes come on a thread of their own."""

    def __init__(self) -> None:
        self._sources: dict[object, tuple[str, asyncio.AbstractEventLoop, Ask]] = {}

    def join(self, kind: str, ask: Ask) -> Callable[[], None]:
        """Ask for the figures of a kind in each scrape, until the returned function is called."""
        key = object()
        self._sources[key] = (kind, asyncio.get_running_loop(), ask)
        return lambda: self._sources.pop(key, None) and None

    def describe(self) -> list[Metric]:
        """Return nothing: to be registered must not read tables."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges of every kind; those of a kind whose tables cannot be read are left out."""
        # A loop that has stopped would never answer, and each scrape would wait for it.
        live = [(kind, loop, ask) for kind, loop, ask in list(self._sources.values()) if loop.is_running()]
        asked = [(kind, asyncio.run_coroutine_threadsafe(ask(), loop)) for kind, loop, ask in live]
        answers = [(kind, _answer(kind, future)) for kind, future in asked]
        readable = GaugeMetricFamily(
            "lathe_queue_readable", "1 if the figures of the queues could be read in this scrape.", labels=["kind"]
        )
        for kind, figures in answers:
            readable.add_metric([kind], float(figures is not None))
        yield readable
        yield from families([(kind, figures) for kind, figures in answers if figures is not None])


_COLLECTOR = _QueueCollector()
REGISTRY.register(_COLLECTOR)


def _answer(kind: str, future: concurrent.futures.Future[Figures]) -> Figures | None:
    try:
        return future.result(_SCRAPE_SECONDS)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        future.cancel()
        log.info("gauges.unread", kind=kind, error=str(error) or type(error).__name__)
        return None


def families(answers: list[tuple[str, Figures]]) -> Iterator[Metric]:
    """Yield the gauges for the figures of kinds."""
    now = datetime.now(UTC)
    loads: tuple[tuple[str, str, Callable[[Load], float]], ...] = (
        ("tasks_waiting", "Tasks that wait for a worker", lambda load: load.waiting),
        ("tasks_running", "Tasks that run", lambda load: load.running),
        ("tasks_oldest_wait_seconds", "Age of the oldest task that waits for a worker", lambda load: load.age(now)),
    )
    for name, words, value in loads:
        by_device = GaugeMetricFamily(f"lathe_{name}", f"{words}.", labels=["kind", "device"])
        by_owner = GaugeMetricFamily(
            f"lathe_owner_{name}",
            f"{words}, of the {TOP_OWNERS} owners with most tasks, and of {OTHERS}.",
            labels=["kind", "device", "owner"],
        )
        for kind, figures in answers:
            for device, load in figures.devices.items():
                by_device.add_metric([kind, device], value(load))
            for (device, owner), load in figures.owners.items():
                by_owner.add_metric([kind, device, owner], value(load))
        yield by_device
        yield by_owner
    live = GaugeMetricFamily("lathe_workers", "Live workers that take such tasks.", labels=["kind", "device"])
    slots = GaugeMetricFamily(
        "lathe_worker_slots", "Tasks that the live workers can run at once.", labels=["kind", "device"]
    )
    for kind, figures in answers:
        for device in figures.devices:
            live.add_metric([kind, device], figures.workers[device])
            slots.add_metric([kind, device], figures.slots[device])
    yield live
    yield slots
