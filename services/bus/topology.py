"""The streams, buckets and consumers that Lathe uses, and the names of their subjects.

TASKS         work queue    task.<kind>.<device>.<task_id>       one message per task; consumer <kind>-<device>
              task.<kind>.on-<device>.<task_id>                    for workers alone whose machine is the device
EVENTS        30 days       event.<kind>.<task_id>.<type>        consumer <kind>-projector, all but logs
ADVISORIES    7 days        max-deliveries of the TASKS consumers; consumer <kind>-deadletters
TASK_CONTROL  KV, 1 day     <kind>.<task_id>                     the task is cancelled
WORKERS       KV, seconds   <kind>.<device>.<worker>             the worker lives
TIMINGS       KV, 30 days   <owner>.<device>.<runtime>.<version> what builders have timed in the owner's tasks
CHANGES       7 days        lathe.changes.<kind>.<uid>           public: changes of tasks, datasets and releases
lathe.changed.<kind>.<uid>  plain NATS: CHANGES has stored one
changed.<kind>.<task_id>    plain NATS: the task has a new revision
sent.<kind>.<device>        plain NATS: TASKS has stored a message for these workers
queues.<kind>               plain NATS: a replica answers with the queues of the kind
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import nats.js.errors
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    KeyValueConfig,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from services.bus.connection import Bus

TASKS = "TASKS"
EVENTS = "EVENTS"
ADVISORIES = "ADVISORIES"
TASK_CONTROL = "TASK_CONTROL"
WORKERS = "WORKERS"
TIMINGS = "TIMINGS"
CHANGES = "CHANGES"
STATE_EVENTS = ("started", "progressed", "succeeded", "failed", "cancelled", "returned")
LOG_EVENT = "logged"

_DAY = 86400.0
CHANGES_KEPT_DAYS = 7
TIMINGS_KEPT_DAYS = 30
MOST_WAITING = 100_000
"""Pull requests that a queue takes. Every idle worker has one there for a moment when a task comes, and one of an older
release always; the server's default is 512, and it sends the others away."""


@dataclass(frozen=True)
class Timing:
    """The clocks of the task engine, in seconds. Tests make them short."""

    ack_wait: float = 60.0
    heartbeat: float = 20.0
    worker_ttl: float = 15.0
    max_deliver: int = 3
    retry_delay: float = 2.0

    @property
    def announced(self) -> float:
        """How often a worker says that it lives."""
        return self.worker_ttl / 3


def task_subject(kind: str, device: str, task_id: str) -> str:
    """Return the subject of a task's message."""
    return f"task.{kind}.{device}.{task_id}"


def sent_subject(kind: str, device: str) -> str:
    """Return the subject on which the server says that TASKS has a new message for a pool of workers."""
    return f"sent.{kind}.{device}"


def on_device(device: str) -> str:
    """Return the name of a device's second queue, from which only workers take whose machine is the device."""
    return f"on-{device}"


def event_subject(kind: str, task_id: str, event: str) -> str:
    """Return the subject of an event; `event` is its field in TaskEvent."""
    return f"event.{kind}.{task_id}.{event}"


def claimed_subject(kind: str, task_id: str) -> str:
    """Return the subject on which a worker says that it began.

    A claim is not stored: a stream that has everything on disk at once takes milliseconds for each message, and a lost
    claim costs nothing, since the first event of an attempt that arrives claims the task.
    """
    return f"claimed.{kind}.{task_id}"


def changed_subject(kind: str, task_id: str) -> str:
    """Return the subject on which changes of a task are announced."""
    return f"changed.{kind}.{task_id}"


def change_subject(kind: str, uid: str) -> str:
    """Return the subject of CHANGES for a resource; `kind` is `conversion`, `dataset`…, and either may be `*`."""
    return f"lathe.changes.{kind}.{uid}"


def stored_subject(kind: str, uid: str) -> str:
    """Return the subject on which the server says that CHANGES has a new message, which has no delivery guarantee."""
    return f"lathe.changed.{kind}.{uid}"


def queues_subject(kind: str) -> str:
    """Return the subject on which one replica answers with the queues of a kind."""
    return f"queues.{kind}"


def control_subject(kind: str, task_id: str) -> str:
    """Return the subject that writes the TASK_CONTROL entry of a task."""
    return f"$KV.{TASK_CONTROL}.{kind}.{task_id}"


def worker_key(kind: str, device: str, worker: str) -> str:
    """Return the key of a worker in WORKERS."""
    return f"{kind}.{device}.{worker}"


def work_consumer(kind: str, device: str) -> str:
    """Return the name of the consumer that a pool of workers shares."""
    return f"{kind}-{device}"


async def ensure_topology(
    bus: Bus, kinds: Iterable[str], devices: Iterable[str], timing: Timing | None = None, *, copies: int = 1
) -> None:
    """Create what is missing and bring the rest up to date; safe to run at every start of every service.

    Args:
        bus: The connection.
        kinds: Kinds of tasks that get their consumers.
        devices: Devices that get a consumer for each kind.
        timing: The clocks.
        copies: Servers of a cluster that have each message; every process has to ask for the same.
    """
    timing = timing or Timing()
    kinds, devices = list(kinds), list(devices)
    for config in _streams():
        await _ensure_stream(bus, config.evolve(num_replicas=copies))
    await _ensure_bucket(bus, KeyValueConfig(bucket=TASK_CONTROL, ttl=_DAY, direct=True, replicas=copies))
    await _ensure_bucket(bus, KeyValueConfig(bucket=WORKERS, ttl=timing.worker_ttl, direct=True, replicas=copies))
    await _ensure_bucket(bus, KeyValueConfig(bucket=TIMINGS, ttl=TIMINGS_KEPT_DAYS * _DAY, replicas=copies))
    consumers = [(TASKS, _work_consumer(kind, device, timing)) for kind in kinds for device in devices]
    consumers += [(EVENTS, _projector(kind, timing)) for kind in kinds]
    consumers += [(ADVISORIES, _dead_letters(kind)) for kind in kinds]
    await asyncio.gather(*(_ensure_consumer(bus, stream, config) for stream, config in consumers))


async def find_queues(bus: Bus, queues: Iterable[tuple[str, str]]) -> None:
    """Look whether the consumers of pools of workers, of a kind and a device each, are there: services make them.

    Raises:
        LookupError: One is not.
    """
    for kind, device in queues:
        try:
            await bus.js.consumer_info(TASKS, work_consumer(kind, device))
        except nats.js.errors.NotFoundError:
            raise LookupError(f"no service has made the queue {work_consumer(kind, device)} yet") from None


def _streams() -> list[StreamConfig]:
    return [
        StreamConfig(
            name=TASKS,
            subjects=["task.>"],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
            # One message per task at most: publishing a task again while its message waits is refused, not doubled.
            max_msgs_per_subject=1,
            discard=DiscardPolicy.NEW,
            discard_new_per_subject=True,
            allow_direct=True,
            republish=RePublish("task.*.*.*", "sent.$1.$2", headers_only=True),
        ),
        StreamConfig(name=EVENTS, subjects=["event.>"], storage=StorageType.FILE, max_age=30 * _DAY, allow_direct=True),
        StreamConfig(
            name=ADVISORIES,
            subjects=[f"$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{TASKS}.>"],
            storage=StorageType.FILE,
            max_age=7 * _DAY,
        ),
        StreamConfig(
            name=CHANGES,
            subjects=[change_subject("*", "*")],
            storage=StorageType.FILE,
            max_age=CHANGES_KEPT_DAYS * _DAY,
            allow_direct=True,
            allow_atomic=True,
            republish=RePublish("lathe.changes.>", "lathe.changed.>", headers_only=True),
        ),
    ]


def _work_consumer(kind: str, device: str, timing: Timing) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=work_consumer(kind, device),
        filter_subject=f"task.{kind}.{device}.*",
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=timing.ack_wait,
        max_deliver=timing.max_deliver,
        max_ack_pending=10_000,
        max_waiting=MOST_WAITING,
    )


def _projector(kind: str, timing: Timing) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=f"{kind}-projector",
        filter_subjects=[event_subject(kind, "*", event) for event in STATE_EVENTS],
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=timing.ack_wait,
        max_ack_pending=10_000,
        deliver_policy=DeliverPolicy.ALL,
    )


def _dead_letters(kind: str) -> ConsumerConfig:
    return ConsumerConfig(durable_name=f"{kind}-deadletters", ack_policy=AckPolicy.EXPLICIT, ack_wait=30.0)


async def _ensure_stream(bus: Bus, config: StreamConfig) -> None:
    try:
        await bus.js.add_stream(config)
    except nats.js.errors.BadRequestError:
        # It exists with other settings: an older release made it.
        await bus.js.update_stream(config)


async def _ensure_consumer(bus: Bus, stream: str, config: ConsumerConfig) -> None:
    try:
        await bus.js.add_consumer(stream, config)
    except nats.js.errors.APIError:
        # An older release made it with another `max_waiting`, which stays as it is for as long as the consumer lives:
        # to make it anew would send what workers hold to others.
        found = await bus.js.consumer_info(stream, str(config.durable_name))
        await bus.js.add_consumer(stream, config.evolve(max_waiting=found.config.max_waiting))


async def _ensure_bucket(bus: Bus, config: KeyValueConfig) -> None:
    try:
        await bus.js.create_key_value(config)
    except nats.js.errors.BadRequestError:
        current = await bus.js.stream_info(f"KV_{config.bucket}")
        updated = current.config.evolve(
            max_age=config.ttl, duplicate_window=min(120.0, config.ttl or 120.0), num_replicas=config.replicas
        )
        await bus.js.update_stream(updated)
