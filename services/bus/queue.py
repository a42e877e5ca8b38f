"""Looking into the work queue: which tasks have a message there, and removing those that should not."""

from __future__ import annotations

import json

from nats.js.errors import NotFoundError

from services.bus.connection import Bus
from services.bus.topology import EVENTS, TASKS

_TIMEOUT_SECONDS = 5.0


async def queued_subjects(bus: Bus, kind: str) -> set[str]:
    """Return the subjects of a kind that have a message, waiting or in a worker's hands."""
    found: set[str] = set()
    while True:
        request = {"subjects_filter": f"task.{kind}.>", "offset": len(found)}
        reply = await bus.nc.request(
            f"$JS.API.STREAM.INFO.{TASKS}", json.dumps(request).encode(), timeout=_TIMEOUT_SECONDS
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
    """Return the message of TASKS with a sequence; None where it is gone."""
    try:
        return (await bus.js.get_msg(TASKS, sequence)).data
    except NotFoundError:
        return None


async def projected(bus: Bus, kind: str) -> bool:
    """Whether every event of a kind was delivered to its projector."""
    info = await bus.js.consumer_info(EVENTS, f"{kind}-projector")
    return not info.num_pending
