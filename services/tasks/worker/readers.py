"""Which live workers read a format of sources, asked by a worker that does not.

It listens until they announce themselves again. It must not read the bucket: what a worker itself wrote there, the
server would send on to whatever subject the worker names as the place of the answer.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from google.protobuf.message import DecodeError
from lathe.internal.v1.event_pb2 import TaskAssignment, WorkerAnnouncement
from nats.aio.msg import Msg

from services.bus.connection import Bus
from services.bus.topology import WORKERS, Timing

_MORE_SECONDS = 0.2
_MOST_NAMED = 5


async def readers(bus: Bus, timing: Timing, assignment: TaskAssignment, source_format: str) -> list[str]:
    """Return the names of some live workers of a task's kind and device that read a format; none if nobody says so.

    Args:
        bus: The connection.
        timing: The clocks of the task engine.
        assignment: The task.
        source_format: Its name in lathe.registry.v1.ModelFormat.
    """
    able: set[str] = set()
    found = asyncio.Event()

    async def hear(message: Msg) -> None:
        with suppress(DecodeError):
            told = WorkerAnnouncement.FromString(message.data)
            if source_format in told.formats:
                able.add(told.worker)
                found.set()

    heard = await bus.subscribe(f"$KV.{WORKERS}.{assignment.kind}.{assignment.device}.>", hear)
    try:
        async with asyncio.timeout(timing.announced + _MORE_SECONDS):
            await found.wait()
            await asyncio.sleep(_MORE_SECONDS)
    except TimeoutError:
        pass
    finally:
        if not bus.nc.is_closed:
            await heard.unsubscribe()
    return sorted(able)[:_MOST_NAMED]
