"""Puts a task service together: a service's main needs only `task_service(platform, kind, scaler)`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

from services.bus.connection import Bus
from services.bus.topology import ensure_topology, on_device
from services.changes.publisher import Publisher
from services.database.pool import Database
from services.platform.quotas import CachedQuotas
from services.process.composition import Platform
from services.process.quotas import RegistryQuotas
from services.process.server import ServiceParts
from services.process.startup import wait_for
from services.tasks.api.claims import Claims, Pace
from services.tasks.api.counts import Counts
from services.tasks.api.creation import Creator
from services.tasks.api.deadletters import DeadLetters
from services.tasks.api.demand import Demand
from services.tasks.api.dispatcher import Dispatcher
from services.tasks.api.gauges import Gauges
from services.tasks.api.groups import Groups
from services.tasks.api.handlers import TaskHandlers
from services.tasks.api.handover import Handover
from services.tasks.api.ledger import Ledger
from services.tasks.api.members import Members
from services.tasks.api.options import TaskOptions
from services.tasks.api.projector import Projector
from services.tasks.api.queues import Queues
from services.tasks.api.relay import Outbox, Relay
from services.tasks.api.retention import FindNamed, Retention
from services.tasks.api.scaler import Scaler
from services.tasks.api.servicer import Method, TaskServicer
from services.tasks.api.settler import Settler
from services.tasks.api.streams import BlobReader, TaskStreams
from services.tasks.api.sweeper import Sweeper
from services.tasks.api.workers import WorkersView
from services.tasks.kind import TaskKind
from services.tasks.state.queue import TaskQueue
from services.tasks.state.rows import TaskCodec
from services.tasks.state.standing import Standing
from services.tasks.state.store import TaskStore


@dataclass(frozen=True)
class TaskEngine:
    """The parts of the engine for one kind, in one process."""

    handlers: TaskHandlers
    streams: TaskStreams
    groups: Groups
    ledger: Ledger
    relay: Relay
    dispatcher: Dispatcher
    projector: Projector
    claims: Claims
    sweeper: Sweeper
    dead_letters: DeadLetters
    workers: WorkersView
    publisher: Publisher
    queues: Queues
    gauges: Gauges
    demand: Demand
    counts: Counts
    retention: Retention

    @property
    def background(self) -> list[Callable[[], Awaitable[None]]]:
        """The background work beside the servicer."""
        parts = (
            self.workers,
            self.relay,
            self.dispatcher,
            self.claims,
            self.projector,
            self.sweeper,
            self.dead_letters,
            self.publisher,
            self.queues,
            self.gauges,
            self.demand,
            self.retention,
        )
        return [part.run for part in parts]


def build_engine(
    kind: TaskKind,
    database: Database,
    bus: Bus,
    blobs: BlobReader,
    options: TaskOptions | None = None,
    *,
    stay: str = "",
    named: FindNamed | None = None,
) -> TaskEngine:
    """Wire the parts; nothing runs yet. `stay` and `named` are those of `task_service`."""
    options = options or TaskOptions()
    codec, outbox = TaskCodec(kind, options.max_attempts), Outbox(database)
    publisher = Publisher(database, bus, options.relay_poll)
    relay = Relay(database, outbox, bus, poll=options.relay_poll, overdue_after=options.relay_poll)
    workers, queue = WorkersView(bus, kind.name, options.timing.worker_ttl), TaskQueue(database)
    dispatcher = Dispatcher(
        database,
        queue,
        bus,
        workers,
        kind.name,
        poll=options.relay_poll,
        weights=options.weights,
        quotas=options.quotas,
    )
    ledger = Ledger(codec, TaskStore(database, codec, publisher), relay, dispatcher, bus)
    settler, standing = Settler(ledger), Standing(database)
    queues = Queues(kind, standing, queue, workers, bus, weights=options.weights)
    ledger.settle_with(settler)
    creator = Creator(ledger, dispatcher, settler, workers, bus, quotas=options.quotas)
    handlers = TaskHandlers(ledger, creator, workers, queues)
    pace = Pace()
    claims = Claims(ledger, bus, pace)
    handover = Handover(kind, workers, bus, options)
    projector = Projector(ledger, bus, claims, pace, handover)

    async def wanted() -> Mapping[str, int]:
        return await standing.wanted(await options.quotas.table())

    groups = Groups(kind, database, handlers, Members(ledger), bus=bus, poll=options.watch_poll)
    return TaskEngine(
        handlers=handlers,
        streams=TaskStreams(handlers, kind.name, bus, blobs, options.watch_poll),
        groups=groups,
        ledger=ledger,
        relay=relay,
        dispatcher=dispatcher,
        projector=projector,
        claims=claims,
        sweeper=Sweeper(
            database,
            ledger,
            settler,
            outbox,
            queue=queue,
            projector=projector,
            handover=handover,
            workers=workers,
            bus=bus,
            options=options,
        ),
        dead_letters=DeadLetters(ledger, bus),
        workers=workers,
        publisher=publisher,
        queues=queues,
        gauges=Gauges(kind.name, standing, workers),
        demand=Demand(kind.name, bus, wanted),
        counts=Counts(kind.name, standing),
        retention=Retention(database, ledger, groups, days=options.retention_days, stay=stay, named=named),
    )


async def task_service(
    platform: Platform,
    kind: TaskKind,
    scaler: Scaler,
    more: Callable[[TaskEngine], Mapping[str, Method]] | None = None,
    options: TaskOptions | None = None,
    *,
    stay: str = "",
    named: FindNamed | None = None,
) -> ServiceParts:
    """Return the parts of a task service.

    Args:
        platform: The connections of the process.
        kind: What the service adds.
        scaler: Tells how many workers the kind needs; each of its devices gets a queue.
        more: Returns the methods that only this service has, by name; they may use the engine.
        options: Clocks and limits; those of the settings if absent.
        stay: Condition of SQL on a task, named `{0}`, that is needed however old it is: `LATHE_TASK_RETENTION_DAYS`
            does not delete it.
        named: Finds the tasks that other services name, which stay, too.
    """
    options = options or TaskOptions.of(platform.settings)
    queues = list(scaler.devices)
    if type(kind).unverified is not TaskKind.unverified:
        queues += map(on_device, scaler.devices)
    options = replace(options, quotas=CachedQuotas(RegistryQuotas(platform.channel("registry")).fetch))
    settings, timing = platform.settings, options.timing
    await wait_for(
        # A cluster that has just started refuses for a while, and takes its time for many queues.
        "JetStream",
        "LATHE_NATS_URL",
        settings.nats_url,
        settings.startup_wait_seconds,
        lambda: ensure_topology(platform.bus, [kind.name], queues, timing, copies=settings.nats_replicas),
    )
    engine = build_engine(kind, platform.database, platform.bus, platform.cas, options, stay=stay, named=named)
    scaler.join(engine.demand)
    own = more(engine) if more is not None else None
    servicer = TaskServicer(kind, engine.handlers, engine.streams, engine.groups, own)
    return ServiceParts(
        servicer.register, [kind.service], engine.background, quotas=options.quotas, counts=[engine.counts]
    )
