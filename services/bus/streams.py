"""Reading streams without a consumer, and clearing them: stateless, so there is nothing to resume after a restart.

nats-py is used if it can. It reads one message per request, and one page of subjects; a task's log has thousands of
messages, and a queue more subjects than a page (100,000), so these two ask the server's API themselves.
"""

from __future__ import annotations

import json
from typing import Any

from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from services.bus.connection import Bus
from services.bus.topology import EVENTS, TASKS

READ_TIMEOUT_SECONDS = 5.0
BATCH = 200


async def direct_get(bus: Bus, stream: str, request: dict[str, Any]) -> list[Msg]:
    """Return the messages that a batched direct get names (NATS ADR-31); the stream allows direct reads.

    Raises:
        nats.errors.TimeoutError: The server does not answer.
        ConnectionError: It refuses.
    """
    inbox = bus.nc.new_inbox()
    subscription = await bus.nc.subscribe(inbox)
    found: list[Msg] = []
    try:
        await bus.nc.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(request).encode(), reply=inbox)
        while True:
            message = await subscription.next_msg(timeout=READ_TIMEOUT_SECONDS)
            status = (message.headers or {}).get("Status")
            if status in {"204", "404"}:
                return found
            if status is not None:
                raise ConnectionError(f"The stream {stream} cannot be read: {message.headers}")
            found.append(message)
    finally:
        await subscription.unsubscribe()


async def read_after(bus: Bus, stream: str, subject: str, sequence: int) -> list[tuple[int, bytes]]:
    """Return the messages of a subject after a stream sequence, each with its own; at most BATCH, so ask again."""
    request = {"seq": sequence + 1, "next_by_subj": subject, "batch": BATCH}
    messages = await direct_get(bus, stream, request)
    return [(int((message.headers or {})["Nats-Sequence"]), message.data) for message in messages]


async def queued_subjects(bus: Bus, kind: str) -> set[str]:
    """Return the subjects of a kind that have a message, waiting or in a worker's hands."""
    found: set[str] = set()
    while True:
        request = {"subjects_filter": f"task.{kind}.>", "offset": len(found)}
        reply = await bus.nc.request(
            f"$JS.API.STREAM.INFO.{TASKS}", json.dumps(request).encode(), timeout=READ_TIMEOUT_SECONDS
        )
        info = json.loads(reply.data)
        page = (info.get("state") or {}).get("subjects") or {}
        found.update(page)
        if not page or len(found) >= info.get("total", 0):
            return found


async def remove_message(bus: Bus, subject: str) -> None:
    """Remove the message of a task, wherever it is."""
    await bus.js.purge_stream(TASKS, subject=subject)


async def message_at(bus: Bus, sequence: int) -> bytes | None:
    """Return the message of TASKS with a sequence; None if it is gone."""
    try:
        return (await bus.js.get_msg(TASKS, sequence)).data
    except NotFoundError:
        return None


async def projected_kinds(bus: Bus) -> list[str]:
    """Return the kinds of task that services have made queues for."""
    consumers = await bus.js.consumers_info(EVENTS)
    return sorted(each.name.removesuffix("-projector") for each in consumers if each.name.endswith("-projector"))


async def projected(bus: Bus, kind: str) -> bool:
    """Return whether every event of a kind was delivered to its projector."""
    info = await bus.js.consumer_info(EVENTS, f"{kind}-projector")
    return not info.num_pending
