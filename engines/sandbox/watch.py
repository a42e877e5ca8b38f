"""Watching a running child from outside, and ending it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable, Iterable

from engines.failures import EngineFailure
from engines.sandbox import outcome, processes
from engines.sandbox.types import Limits

_WATCH_SECONDS = 0.1
_SWEEP_SECONDS = 0.01


async def watch_usage(pid: int, limits: Limits, log: Iterable[str], fail: Callable[[EngineFailure], None]) -> None:
    """Look at the whole process tree ten times a second; call `fail` once it uses too much."""
    expendables = processes.Expendables(pid)
    while True:
        expendables.offer()
        used = processes.usage(pid, limits.memory_bytes)
        if used.memory_bytes > limits.memory_bytes:
            return fail(outcome.over_memory(used, limits, log))
        if used.processes > outcome.MAX_PROCESSES:
            return fail(outcome.too_many_processes(used, log))
        await asyncio.sleep(_WATCH_SECONDS)


async def end_tree(process: subprocess.Popen[bytes], exited: asyncio.Event) -> None:
    """Kill everything under the supervisor and then, unless it ends by itself as it does, the supervisor.

    The supervisor goes last: it adopts and collects what is below it, so nothing is left for others to collect.
    """
    while not exited.is_set():
        below = processes.descendants(process.pid)
        for pid in below:
            processes.kill(pid)
        if not below:
            process.kill()
        try:
            async with asyncio.timeout(_SWEEP_SECONDS):
                await exited.wait()
        except TimeoutError:
            continue
