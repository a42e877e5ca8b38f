"""The live workers, which announce themselves in the WORKERS bucket."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import NamedTuple

from google.protobuf.message import DecodeError
from lathe.internal.v1.event_pb2 import WorkerAnnouncement
from lathe.registry.v1.device_service_pb2 import ConfinedWorkers

from services.bus.connection import Bus
from services.bus.mirror import Mirror
from services.bus.topology import WORKERS
from services.platform.background import together

_COUNTED_SECONDS = 0.1
_LOOK_SECONDS = 1.0
_TOGETHER_SECONDS = 3600.0
"""Environments that lived so shortly before the last one are remembered with it: workers of a pool end one by one."""


class Fleet(NamedTuple):
    """The live workers that serve a device: all, those whose machine is the device, and what follows from them."""

    workers: tuple[WorkerAnnouncement, ...]
    on_device: tuple[WorkerAnnouncement, ...]
    slots: int
    environments: frozenset[str]


_NOBODY = Fleet((), (), 0, frozenset())


class WorkersView:
    """The workers of one kind. `ttl` is in seconds: a worker that is silent for so long is gone.

    They are counted when one comes or goes, and else ten times a second at most: every change of a task asks for them.
    """

    def __init__(self, bus: Bus, kind: str, ttl: float) -> None:
        self._bus = bus
        self._arrived: Callable[[str], None] | None = None
        refresh = max(ttl / 2, 0.2)
        self._mirror = Mirror(bus, WORKERS, f"{kind}.>", ttl, on_put=self._on_put, refresh=refresh)
        self._fleets: dict[str, Fleet] = {}
        self._counted = (-1, 0.0)
        # When environments last lived, by device; when a worker on the device last did. A process that has just begun
        # has not seen those who left before.
        self._lived: dict[str, dict[str, float]] = {}
        self._began = time.monotonic()
        self._there: dict[str, float] = {}

    def on_arrival(self, call: Callable[[str], None]) -> None:
        """Call a function with the device of every worker that comes."""
        self._arrived = call

    async def run(self) -> None:
        """Keep the view fresh until cancelled."""
        await together(self._mirror.run(), self._look())

    async def _look(self) -> None:
        """Look now and then even if nobody asks, so that every replica remembers who lived."""
        while True:
            self._count()
            await asyncio.sleep(_LOOK_SECONDS)

    @property
    def known(self) -> bool:
        """Whether the view is fresh: an absent worker is then really absent."""
        return self._mirror.synced and self._bus.connected

    def live(self) -> list[WorkerAnnouncement]:
        """Return every live worker's announcement."""
        return [worker for fleet in self._count().values() for worker in fleet.workers]

    def environments(self, device: str) -> frozenset[str]:
        """Return the environments that serve a device: several in a mixed pool, or while it is upgraded.

        As long as workers on the device live, those of others are left out: what they make is not verified there. If
        none lives, as in a pool that is scaled to zero, those that lived last: what is done need not wake a machine.
        """
        if found := self._fleet(device).environments:
            return found
        return frozenset(self._lived.get(device, ()))

    def serves(self, device: str) -> bool:
        """Whether any live worker takes tasks for a device."""
        return bool(self._fleet(device).workers)

    def slots(self, device: str) -> int:
        """Return how many tasks for a device the live workers can run at once."""
        return self._fleet(device).slots

    def serving(self, device: str) -> tuple[WorkerAnnouncement, ...]:
        """Return the live workers that take tasks for a device."""
        return self._fleet(device).workers

    def on_device(self, device: str) -> tuple[WorkerAnnouncement, ...]:
        """Return the live workers whose machine is the device."""
        return self._fleet(device).on_device

    def sandboxes(self, device: str) -> list[ConfinedWorkers]:
        """Return how the live workers for a device confine what models bring; those that are alike are together."""
        found: dict[bytes, ConfinedWorkers] = {}
        for worker in self.serving(device):
            if worker.HasField("sandbox"):
                alike = found.setdefault(
                    worker.sandbox.SerializeToString(deterministic=True), ConfinedWorkers(sandbox=worker.sandbox)
                )
                alike.workers.append(worker.worker)
        return list(found.values())

    def seconds_without(self, device: str) -> float:
        """Return for how long no worker has lived whose machine is the device, as far as this process has seen."""
        self._count()
        return time.monotonic() - self._there.get(device, self._began)

    def alive(self) -> frozenset[str]:
        """Return the names of the live workers."""
        return frozenset(worker.worker for worker in self.live())

    def _fleet(self, device: str) -> Fleet:
        return self._count().get(device, _NOBODY)

    def _count(self) -> dict[str, Fleet]:
        version, until = self._counted
        now = time.monotonic()
        if version != self._mirror.version or now >= until:
            self._counted = self._mirror.version, now + _COUNTED_SECONDS
            found: dict[str, list[WorkerAnnouncement]] = {}
            for value in self._mirror.entries().values():
                if (worker := _parsed(value)) is not None:
                    found.setdefault(worker.device, []).append(worker)
            self._fleets = {device: _fleet_of(workers) for device, workers in found.items()}
            for device, fleet in self._fleets.items():
                lived = self._lived.get(device, {}) | dict.fromkeys(fleet.environments, now)
                self._lived[device] = {each: seen for each, seen in lived.items() if seen > now - _TOGETHER_SECONDS}
                if fleet.on_device:
                    self._there[device] = now
        return self._fleets

    async def _on_put(self, _key: str, value: bytes) -> None:
        worker = _parsed(value)
        if worker is not None and self._arrived is not None:
            self._arrived(worker.device)

    def why_pending(self, kind: str, device: str, *, handed_on: bool = False) -> str:
        """Return the reason why a PENDING task for a device waits; empty if a worker will take it."""
        if not self._bus.connected:
            return "The message bus does not answer; the task starts when it is back."
        if handed_on:
            gone = self.known and not self.on_device(device)
            return (
                f"No worker for {kind} that is {device} lives; if none comes, the result is UNVERIFIED." if gone else ""
            )
        if self.known and not self.serves(device):
            return (
                f"No worker for {kind} on {device} is running; the task starts when one does. A pool that is scaled "
                "from zero starts one for it; when, is not known here."
            )
        return ""


def slots_of(workers: Iterable[WorkerAnnouncement]) -> int:
    """Return how many tasks workers can run at once."""
    return sum(max(1, worker.slots) for worker in workers)


def _fleet_of(workers: list[WorkerAnnouncement]) -> Fleet:
    there = [worker for worker in workers if worker.on_device]
    environments = frozenset(worker.environment for worker in there or workers)
    return Fleet(tuple(workers), tuple(there), slots_of(workers), environments)


@lru_cache(maxsize=4096)
def _parsed(value: bytes) -> WorkerAnnouncement | None:
    """Return an announcement, which stays the same for as long as its worker lives; None if it cannot be read."""
    try:
        return WorkerAnnouncement.FromString(value)
    except DecodeError:
        return None
