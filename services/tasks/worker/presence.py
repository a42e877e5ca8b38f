"""What a worker serves, and how all learn that it lives: an entry per kind, which ends soon after its worker."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import nats.errors
from lathe.internal.v1.event_pb2 import WorkerAnnouncement
from lathe.type.v1 import sandbox_pb2

from engines.sandbox import Sandbox
from services.bus.connection import Bus, BusUnavailableError
from services.bus.topology import WORKERS, worker_key
from services.tasks.kind import WorkKind


@dataclass(frozen=True, slots=True)
class Pool:
    """What a worker serves: tasks of `kinds` for `device`, at most `concurrency` of them at once.

    `on_device` says that the machine is the device, so that forms for it can be compared and timed here. `timings` are
    the versions of its runtimes that keep timings, by name. `sandbox` is how it confines what models bring; None if it
    does not say.
    """

    kinds: Sequence[WorkKind]
    device: str
    concurrency: int = 1
    on_device: bool = False
    timings: Mapping[str, str] = field(default_factory=dict)
    sandbox: Sandbox | None = None

    @property
    def handed_on(self) -> list[str]:
        """The kinds whose tasks others may hand on to it, as they can be begun elsewhere."""
        return [kind.name for kind in self.kinds if self.on_device and not kind.runs_forms]


class Presence:
    """The entries of one worker.

    Args:
        bus: The connection.
        pool: What it serves.
        worker: Its name.
        environments: The digest of what a task of each kind runs in, and its description in JSON.
    """

    def __init__(self, bus: Bus, pool: Pool, worker: str, environments: Mapping[str, tuple[str, str]]) -> None:
        self._bus = bus
        self._entries = {
            f"$KV.{WORKERS}.{worker_key(kind.name, pool.device, worker)}": WorkerAnnouncement(
                worker=worker,
                kind=kind.name,
                device=pool.device,
                environment=environments[kind.name][0],
                environment_json=environments[kind.name][1],
                slots=pool.concurrency,
                on_device=pool.on_device,
                formats=kind.formats,
                sandbox=_told(pool.sandbox),
            ).SerializeToString()
            for kind in pool.kinds
        }

    async def run(self, every: float) -> None:
        """Write the entries, again and again, until cancelled; `every` is in seconds."""
        while True:
            try:
                await asyncio.gather(*(self._bus.publish(*each) for each in self._entries.items()))
                await asyncio.sleep(every)
            except BusUnavailableError:
                await asyncio.sleep(min(0.5, every))

    async def withdraw(self) -> None:
        """Delete the entries."""
        with contextlib.suppress(nats.errors.Error, OSError):
            for subject in self._entries:
                await self._bus.nc.publish(subject, b"", headers={"KV-Operation": "DEL"})


def _told(sandbox: Sandbox | None) -> sandbox_pb2.Sandbox | None:
    if sandbox is None:
        return None
    return sandbox_pb2.Sandbox(confined=sandbox.confined, active=sandbox.active, missing=sandbox.missing)
