"""Reading a stream without a consumer: stateless, so there is nothing to resume after a restart of the server."""

from __future__ import annotations

import json
from typing import Any

from nats.aio.msg import Msg

from services.bus.connection import Bus

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
