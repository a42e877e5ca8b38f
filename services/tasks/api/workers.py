"""The live workers, which announce themselves in the WORKERS bucket."""

from __future__ import annotations

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
        self._mirror = Mirror(bus, WORKERS, f"{kind}.>", ttl, refresh=max(ttl / 2, 0.2))

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
        """Return the environments that serve a device: several in a mixed pool, or while it is upgraded."""
        return {worker.environment for worker in self.live() if worker.device == device}

    def serves(self, device: str) -> bool:
        """Whether any live worker takes tasks for a device."""
        return any(worker.device == device for worker in self.live())

    def alive(self) -> frozenset[str]:
        """Return the names of the live workers."""
        return frozenset(worker.worker for worker in self.live())

    def why_pending(self, kind: str, device: str) -> str:
        """Return the reason why a PENDING task for a device waits; empty if a worker will take it."""
        if not self._bus.connected:
            return "The message bus does not answer; the task starts when it is back."
        if self.known and not self.serves(device):
            return f"No worker for {kind} on {device} is running; the task starts when one does."
        return ""


@lru_cache(maxsize=4096)
def _parsed(value: bytes) -> WorkerAnnouncement | None:
    """Return an announcement, which stays the same for as long as its worker lives; None if it cannot be read."""
    try:
        return WorkerAnnouncement.FromString(value)
    except DecodeError:
        return None
