"""Services and workers inside the process of a test or benchmark."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from engines.sandbox import Limits
from services.local.ports import free_port
from services.platform.settings import Settings
from services.process.composition import EVERYTHING, Need
from services.process.server import Build, serving
from services.process.startup import prepare_schema
from services.tasks.worker.runner import OnLog, OnProgress, Slot

Function = Callable[[dict[str, Any], Slot, OnProgress, OnLog], Awaitable[dict[str, Any]]]


def with_free_addresses(settings: Settings, *services: str) -> Settings:
    """Return settings in which each service has an address of its own, so that they can ask each other."""
    return settings.model_copy(update={f"{name}_address": f"127.0.0.1:{free_port()}" for name in services})


class InProcessSlot:
    """A slot whose job is a coroutine of this process."""

    def __init__(self, function: Function, root: Path) -> None:
        self._function = function
        self._root = root
        self._made: Path | None = None

    @property
    def workdir(self) -> Path:
        """The work directory; made when it is first asked for."""
        if self._made is None:
            self._root.mkdir(parents=True, exist_ok=True)
            self._made = Path(tempfile.mkdtemp(prefix="task-", dir=self._root))
        return self._made

    @property
    def memory_bytes(self) -> int:
        """Zero: the job has no process of its own."""
        return 0

    @property
    def peak_memory_bytes(self) -> int:
        """Zero, likewise."""
        return 0

    async def run(
        self, request: dict[str, Any], limits: Limits, on_progress: OnProgress, on_log: OnLog
    ) -> dict[str, Any]:
        """Await the function, within the time limit."""
        async with asyncio.timeout(limits.timeout_seconds):
            return await self._function(request, self, on_progress, on_log)

    async def discard(self) -> None:
        """Remove the work directory, if one was made."""
        if self._made is not None:
            await asyncio.to_thread(shutil.rmtree, self._made, ignore_errors=True)


class InProcessRunner:
    """Runs jobs as coroutines."""

    def __init__(self, function: Function, root: Path) -> None:
        self._function = function
        self._root = root

    async def warm(self) -> None:
        """Do nothing: there is nothing to warm."""

    async def acquire(self, entry: str) -> Slot:
        """Return a slot; the job is always this runner's."""
        return InProcessSlot(self._function, self._root)

    async def close(self) -> None:
        """Do nothing: nothing waits."""


@asynccontextmanager
async def serve_in_process(
    name: str,
    build: Build,
    settings: Settings,
    needs: Collection[Need] = EVERYTHING,
    listen: str = "127.0.0.1:0",
) -> AsyncIterator[str]:
    """Serve within the running event loop; gives the address.

    Args:
        name: The service.
        build: Builds its parts.
        settings: Where its servers are; host and port are not used.
        needs: The servers that are connected; `()` for a service that needs none.
        listen: host:port; a free port if it is 0.
    """
    if Need.DATABASE in needs:
        await prepare_schema(settings, name)
    async with serving(name, build, settings, needs, listen) as address:
        yield address
