"""Which live workers read a format of sources, asked by a worker that does not."""

from __future__ import annotations

import asyncio

from google.protobuf.message import DecodeError
from lathe.internal.v1.event_pb2 import TaskAssignment, WorkerAnnouncement

from services.bus.connection import Bus
from services.bus.mirror import Mirror
from services.bus.topology import WORKERS, Timing
from services.platform.background import end

_PATIENCE_SECONDS = 2.0
_MOST_NAMED = 5


async def readers(bus: Bus, timing: Timing, assignment: TaskAssignment, source_format: str) -> list[str]:
    """Return the names of some live workers of a task's kind and device that read a format; none if nobody says so.

    Args:
        bus: The connection.
        timing: The clocks of the task engine.
        assignment: The task.
        source_format: Its name in lathe.registry.v1.ModelFormat.
    """
    mirror = Mirror(bus, WORKERS, f"{assignment.kind}.{assignment.device}.>", timing.worker_ttl)
    reading = asyncio.create_task(mirror.run())
    try:
        await asyncio.wait_for(mirror.wait(), _PATIENCE_SECONDS)
    except TimeoutError:
        return []
    finally:
        await end([reading])
    found = (_announced(value) for value in mirror.entries().values())
    return sorted(each.worker for each in found if each is not None and source_format in each.formats)[:_MOST_NAMED]


def _announced(value: bytes) -> WorkerAnnouncement | None:
    try:
        return WorkerAnnouncement.FromString(value)
    except DecodeError:
        return None
