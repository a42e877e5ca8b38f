"""What each role may do at NATS, in the language of its configuration: subjects to publish to, subjects to hear.

Whoever uses a new subject, stream or call of JetStream adds it here: the server refuses what is not in the table, and
the refusal is in the log of the process that asked (`bus.refused`). Answers come to an inbox with the name of the user
in it, so that no role hears what another one was told.

A limit of NATS: JetStream answers on whatever subject a request names, without looking at rights. So none but the
registry may read a stream directly to which it writes what it likes: it could have its own words said in a place that
it must not speak in. What is left is noise: a worker can have its queue's messages, or refusals, sent to places where
they mean nothing, or where any message means the end of a task (TASK_CONTROL).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from textwrap import wrap

from services.bus.connection import inbox_of
from services.bus.topology import (
    ADVISORIES,
    CHANGES,
    EVENTS,
    LOG_EVENT,
    STATE_EVENTS,
    TASK_CONTROL,
    TASKS,
    TIMINGS,
    WORKERS,
    change_subject,
    changed_subject,
    claimed_subject,
    control_subject,
    event_subject,
    on_device,
    queues_subject,
    sent_subject,
    stored_subject,
    task_subject,
    work_consumer,
)

_STREAMS = (TASKS, EVENTS, ADVISORIES, CHANGES, *(f"KV_{bucket}" for bucket in (TASK_CONTROL, WORKERS, TIMINGS)))


@dataclass(frozen=True)
class Rights:
    """The subjects of a role, with wildcards; `answers` lets it answer whoever asks it."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    answers: bool = False


def registry_rights(changes: Iterable[str]) -> Rights:
    """Return the rights of the registry; `changes` are the kinds of resources whose changes it publishes."""
    return Rights(
        publish=(
            *_topology(),
            *(change_subject(kind, "*") for kind in changes),
            _api("DIRECT.GET", CHANGES),
            # Which kinds of task there are is read from their consumers.
            _api("CONSUMER.LIST", EVENTS),
            queues_subject("*"),
            # What is removed must not be kept as timings: the collection of garbage reads all of them.
            *_reading(f"KV_{TIMINGS}"),
            _api("STREAM.MSG.GET", f"KV_{TIMINGS}"),
        ),
        subscribe=(stored_subject("*", "*"),),
    )


def service_rights(kinds: Iterable[str], devices: Iterable[str]) -> Rights:
    """Return the rights of a task service of these kinds, with queues for these devices."""
    publish, subscribe = list(_topology()), []
    # A purge names its subjects in the request, which no right can look into: one service can empty another's queue.
    publish += [_api("STREAM.PURGE", TASKS), _api("STREAM.MSG.GET", TASKS)]
    publish += [_api("DIRECT.GET", stream) for stream in (EVENTS, f"KV_{WORKERS}")]
    names = [name for device in devices for name in (device, on_device(device))]
    for kind in kinds:
        publish += [each for name in names for each in _consumer(TASKS, work_consumer(kind, name))]
        for stream, consumer in ((EVENTS, f"{kind}-projector"), (ADVISORIES, f"{kind}-deadletters")):
            publish += [*_consumer(stream, consumer), *_pulling(stream, consumer)]
        publish += [
            task_subject(kind, "*", "*"),
            control_subject(kind, "*"),
            changed_subject(kind, "*"),
            change_subject(kind, "*"),
        ]
        subscribe += [
            changed_subject(kind, "*"),
            claimed_subject(kind, "*"),
            event_subject(kind, "*", LOG_EVENT),
            sent_subject(kind, "*"),
            queues_subject(kind),
            f"$KV.{WORKERS}.{kind}.>",
        ]
    return Rights(tuple(publish), tuple(subscribe), answers=True)


def worker_rights(kinds: Iterable[str], device: str) -> Rights:
    """Return the rights of the workers of a device that serve these kinds."""
    publish = [_api("DIRECT.GET", f"KV_{TASK_CONTROL}")]
    publish += [_api(call, f"KV_{TIMINGS}") for call in ("STREAM.INFO", "STREAM.MSG.GET")]
    publish.append(f"$KV.{TIMINGS}.*.{device}.>")
    subscribe = [f"$KV.{TASK_CONTROL}.>"]
    for kind in kinds:
        for queue in (device, on_device(device)):
            consumer = work_consumer(kind, queue)
            publish += [_api("CONSUMER.INFO", TASKS, consumer), *_pulling(TASKS, consumer)]
            subscribe.append(sent_subject(kind, queue))
        publish += [event_subject(kind, "*", event) for event in (*STATE_EVENTS, LOG_EVENT)]
        publish += [claimed_subject(kind, "*"), f"$KV.{WORKERS}.{kind}.{device}.*"]
        subscribe.append(f"$KV.{WORKERS}.{kind}.{device}.>")
    return Rights(tuple(publish), tuple(subscribe))


def watcher_rights() -> Rights:
    """Return the rights of those who read all changes with consumers of their own, such as a company's dashboards."""
    calls = ("STREAM.INFO", "CONSUMER.LIST", "CONSUMER.NAMES", "DIRECT.GET")
    return Rights(
        publish=(
            *(_api(call, CHANGES) for call in calls),
            *_reading(CHANGES),
            *_pulling(CHANGES, "*"),
        ),
        subscribe=(stored_subject("*", "*"),),
    )


def authorization(owner: str, users: Mapping[str, Rights], passwords: Mapping[str, str]) -> str:
    """Return the block `authorization` of a server's configuration.

    Args:
        owner: The user who may do everything.
        users: The others, by name.
        passwords: What stands in the file as the password of each: quoted text, or a variable.
    """
    lines = ["authorization {", "  users: [", f"    {{ user: {json.dumps(owner)}, password: {passwords[owner]} }}"]
    for user, rights in users.items():
        subscribe = (*rights.subscribe, f"{inbox_of(user)}.>")
        lines += [
            f"    {{ user: {json.dumps(user)}, password: {passwords[user]}, permissions: {{",
            *_listed("publish", rights.publish),
            *_listed("subscribe", subscribe),
            *(["      allow_responses: true"] if rights.answers else []),
            "    } }",
        ]
    return "\n".join([*lines, "  ]", "}", ""])


def _listed(name: str, subjects: Iterable[str]) -> list[str]:
    text = ", ".join(json.dumps(each) for each in subjects)
    inside = wrap(
        text, 120, initial_indent=" " * 8, subsequent_indent=" " * 8, break_long_words=False, break_on_hyphens=False
    )
    return [f"      {name}: [", *inside, "      ]"]


def _api(call: str, *names: str) -> str:
    return ".".join(("$JS.API", call, *names))


def _topology() -> list[str]:
    return [_api(f"STREAM.{call}", stream) for call in ("CREATE", "UPDATE", "INFO") for stream in _STREAMS]


def _consumer(stream: str, name: str) -> tuple[str, str]:
    return _api("CONSUMER.DURABLE.CREATE", stream, name), _api("CONSUMER.INFO", stream, name)


def _pulling(stream: str, consumer: str) -> tuple[str, str]:
    return _api("CONSUMER.MSG.NEXT", stream, consumer), f"$JS.ACK.{stream}.{consumer}.>"


def _reading(stream: str) -> tuple[str, ...]:
    """Return what it takes to read a stream by consumers of one's own."""
    calls = [_api(f"CONSUMER.{call}", stream, ">") for call in ("CREATE", "DURABLE.CREATE", "INFO", "DELETE")]
    return (_api("CONSUMER.CREATE", stream), *calls, f"$JS.FC.{stream}.>")
