"""Where a worker runs a job: in a sandboxed child of which one is kept warm."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import structlog

from engines.sandbox import DEATHS, Child, Died, Limits, Progress
from services.platform.work_folders import remove_folder
from services.tasks.worker.turn import Turn

log = structlog.get_logger(__name__)

MOST_DEATHS = 5
"""How many deaths of its process a job survives; one more fails it."""

Request = dict[str, Any]
OnProgress = Callable[[Progress], None]
OnLog = Callable[[str], None]


class Slot(Protocol):
    """A work directory and the process for one job."""

    @property
    def workdir(self) -> Path:
        """The work directory, fresh."""

    @property
    def memory_bytes(self) -> int:
        """Memory that the processes of the job hold now, in bytes; 0 if it runs in none of its own."""

    @property
    def peak_memory_bytes(self) -> int:
        """The most that they held at once."""

    async def run(
        self, request: dict[str, Any], limits: Limits, on_progress: OnProgress, on_log: OnLog
    ) -> dict[str, Any]:
        """Run the job. Raises EngineFailure."""

    async def discard(self) -> None:
        """End the job and everything that it started, at once, and remove the work directory."""


class JobRunner(Protocol):
    """Gives slots."""

    async def warm(self) -> None:
        """Get a slot ready ahead of time."""

    async def acquire(self, entry: str) -> Slot:
        """Return a fresh slot for a job that the function `entry` does."""

    async def close(self) -> None:
        """Discard what is warm."""


class ChildSlot:
    """A slot whose job runs in a sandboxed child.

    If the child dies of a step that the job said it can go on without (`Reporter.risk`), the job is run again in the
    same work directory without that step. Each step is skipped once, and the time limit is for all runs together. It
    begins with the turn on the accelerator, if there is one.
    """

    def __init__(
        self,
        child: Child,
        workdir: Path,
        entry: str,
        spawn: Callable[[], Awaitable[Child]],
        turn: Turn | None = None,
    ) -> None:
        self._child = child
        self._workdir = workdir
        self._entry = entry
        self._spawn = spawn
        self._stopped = False
        self._turn = turn
        self._peak_before = 0

    @property
    def workdir(self) -> Path:
        """The work directory; the child may write nowhere else."""
        return self._workdir

    @property
    def memory_bytes(self) -> int:
        """Memory that the child and its children hold now, in bytes."""
        return self._child.memory_bytes

    @property
    def peak_memory_bytes(self) -> int:
        """The most that one of the children of this job held at once, with its children."""
        return max(self._peak_before, self._child.peak_memory_bytes)

    async def run(
        self, request: dict[str, Any], limits: Limits, on_progress: OnProgress, on_log: OnLog
    ) -> dict[str, Any]:
        """Run the entry function in the child, and in another one after each step that it died of."""
        deaths: dict[str, dict[str, Any]] = {}
        if self._turn is not None:
            await self._turn.take(on_progress)
        began, left = time.monotonic(), limits
        while True:
            asked = {**request, DEATHS: list(deaths.values())} if deaths else request
            try:
                result = await self._child.run(self._entry, asked, left, on_progress, on_log)
                self._end_turn()
                return result
            except Died as death:
                step = self._child.risk
                if not step or step in deaths or len(deaths) == MOST_DEATHS:
                    raise
                log.info("runner.died", step=step, reason=death.reason.value, message=death.message)
                deaths[step] = {"step": step, "failure": death.to_dict(), "at": time.monotonic()}
                on_log(f"{step}: {death.message} The work goes on without it, in another process.")
            self._peak_before = self.peak_memory_bytes
            self._child = await self._spawn()
            if self._stopped:
                await self._child.kill()
            await self._child.ready()
            left = replace(limits, spent_seconds=time.monotonic() - began)

    async def stop(self) -> None:
        """Kill the child and its children."""
        self._stopped = True
        await self._child.kill()

    async def discard(self) -> None:
        """Kill the child and remove the work directory."""
        await self.stop()
        self._end_turn()
        await asyncio.to_thread(remove_folder, self._workdir)

    def _end_turn(self) -> None:
        if self._turn is not None:
            self._turn.end()


class SandboxRunner:
    """Keeps one child warm, with the frameworks imported, so that no task waits for that.

    Args:
        preload: Modules that a child imports ahead.
        root: Folder of the work directories.
        devices: Patterns of the files of accelerators that a job may use.
        turns: File by which the jobs on one accelerator take turns; None if they need not.
    """

    def __init__(
        self,
        preload: Sequence[str],
        root: Path,
        *,
        devices: Sequence[str] = (),
        turns: Path | None = None,
    ) -> None:
        self._preload = tuple(preload)
        self._root = root
        self._devices, self._turns = tuple(devices), turns
        self._warm: asyncio.Task[tuple[Child, Path]] | None = None

    async def warm(self) -> None:
        """Start a child if none is waiting; returns at once."""
        if self._warm is None:
            self._warm = asyncio.create_task(self._spawn())

    async def acquire(self, entry: str) -> Slot:
        """Return the warm child, or a new one."""
        warm, self._warm = self._warm, None
        if warm is not None:
            try:
                return self._slot(*await warm, entry)
            except OSError as error:
                log.warning("runner.warm_child_failed", error=str(error))
        return self._slot(*await self._spawn(), entry)

    async def close(self) -> None:
        """Kill the waiting child."""
        warm, self._warm = self._warm, None
        if warm is not None:
            try:
                await self._slot(*await warm, "").discard()
            except OSError as error:
                log.warning("runner.warm_child_failed", error=str(error))

    async def _spawn(self) -> tuple[Child, Path]:
        self._root.mkdir(parents=True, exist_ok=True)
        workdir = Path(tempfile.mkdtemp(prefix="task-", dir=self._root))
        return await self._child(workdir), workdir

    async def _child(self, workdir: Path) -> Child:
        return await Child.spawn(workdir, self._preload, devices=self._devices)

    def _slot(self, child: Child, workdir: Path, entry: str) -> ChildSlot:
        turn = Turn(self._turns) if self._turns else None
        return ChildSlot(child, workdir, entry, partial(self._child, workdir), turn)
