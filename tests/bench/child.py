"""Runs an engine's entry in the sandboxed child, as workers do, and tells its time and its memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from engines.sandbox import Child, Limits

MIB = 1 << 20
_LOOK_SECONDS = 0.05


@dataclass(frozen=True)
class Measured:
    """What came of a job.

    Attributes:
        result: What the entry returned.
        seconds: Wall-clock time of the job, in a child that had its modules imported.
        peak_bytes: Most resident memory that one process of the child had, its imports included.
        imports_bytes: The same before the job.
    """

    result: dict[str, Any]
    seconds: float
    peak_bytes: int
    imports_bytes: int


class Peak:
    """Watches the processes under one; the kernel keeps the peak of each, so a look now and then is enough."""

    def __init__(self, pid: int, matches: Callable[[psutil.Process], bool] = lambda _process: True) -> None:
        """Watch those under `pid`, itself included, that match."""
        self._pid = pid
        self._matches = matches
        self.bytes = 0

    def look(self) -> int:
        """Look once; return the largest peak so far, in bytes."""
        try:
            root = psutil.Process(self._pid)
            found = [each for each in (root, *root.children(recursive=True)) if self._matches(each)]
        except psutil.Error:
            return self.bytes
        self.bytes = max([self.bytes, *(_high_water(each.pid) for each in found)])
        return self.bytes

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_SECONDS)


def run(entry: str, request: dict[str, Any], workdir: Path, preload: Sequence[str], timeout_seconds: float) -> Measured:
    """Do one job in a child. Raises EngineFailure as the entry does, or if it takes too long."""
    return asyncio.run(_run(entry, request, workdir, preload, Limits(16 << 30, timeout_seconds)))


async def _run(entry: str, request: dict[str, Any], workdir: Path, preload: Sequence[str], limits: Limits) -> Measured:
    async with await Child.spawn(workdir, preload) as child:
        await child.ready()
        peak = Peak(child.pid)
        before = peak.look()
        watcher = asyncio.create_task(peak.watch())
        began = time.perf_counter()
        try:
            result = await child.run(entry, request, limits)
        finally:
            watcher.cancel()
        return Measured(result, time.perf_counter() - began, peak.bytes, before)


def _high_water(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))
