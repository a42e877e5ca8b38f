"""The live workers, which announce themselves in the WORKERS bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from google.protobuf.message import DecodeError
from lathe.internal.v1.event_pb2 import WorkerAnnouncement

from services.bus.connection import Bus
from services.bus.mirror import Mirror
from services.bus.topology import WORKERS


class WorkersView:
    """The workers of one kind. `ttl` is in seconds: a worker that is silent for so long is gone."""

    def __init__(self, bus: Bus, kind: str, ttl: float) -> None:
        self._bus = bus
        self._arrived: Callable[[str], None] | None = None
        refresh = max(ttl / 2, 0.2)
        self._mirror = Mirror(bus, WORKERS, f"{kind}.>", ttl, on_put=self._on_put, refresh=refresh)

    def on_arrival(self, call: Callable[[str], None]) -> None:
        """Call a function with the device of every worker that comes."""
        self._arrived = call

    async def run(self) -> None:
        """Keep the view fresh until cancelled."""
        await self._mirror.run()

    @property
    def known(self) -> bool:
        """Whether the view is fresh: an absent worker is then really absent."""
        return self._mirror.synced and self._bus.connected

    def live(self) -> list[WorkerAnnouncement]:
        """Return every live worker's announcement."""
        found = (_parsed(value) for value in self._mirror.entries().values())
        return [worker for worker in found if worker is not None]

    def environments(self, device: str) -> set[str]:
        """Return the environments that serve a device: several in a mixed pool, or while it is upgraded.

        As long as workers on the device live, those of others are left out: what they make is not verified there.
        """
        return {worker.environment for worker in self.on_device(device) or self.serving(device)}

    def serves(self, device: str) -> bool:
        """Whether any live worker takes tasks for a device."""
        return bool(self.serving(device))

    def slots(self, device: str) -> int:
        """Return how many tasks for a device the live workers can run at once."""
        return slots_of(self.serving(device))

    def serving(self, device: str) -> list[WorkerAnnouncement]:
        """Return the live workers that take tasks for a device."""
        return [worker for worker in self.live() if worker.device == device]

    def on_device(self, device: str) -> list[WorkerAnnouncement]:
        """Return the live workers whose machine is the device."""
        return [worker for worker in self.serving(device) if worker.on_device]

    def alive(self) -> frozenset[str]:
        """Return the names of the live workers."""
        return frozenset(worker.worker for worker in self.live())

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
            return f"No worker for {kind} on {device} is running; the task starts when one does."
        return ""


def slots_of(workers: Iterable[WorkerAnnouncement]) -> int:
    """Return how many tasks workers can run at once."""
    return sum(max(1, worker.slots) for worker in workers)


@lru_cache(maxsize=4096)
def _parsed(value: bytes) -> WorkerAnnouncement | None:
    """Return an announcement, which stays the same for as long as its worker lives; None if it cannot be read."""
    try:
        return WorkerAnnouncement.FromString(value)
    except DecodeError:
        return None
