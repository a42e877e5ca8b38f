"""The parent's side: start a child, give it one job, and end it with all its processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Self

from engines.failures import EngineFailure, FailureReason
from engines.sandbox import frames, outcome
from engines.sandbox.following import Following, OnLog, OnProgress, end_tree, watch_usage
from engines.sandbox.launch import Handles, launch
from engines.sandbox.pipes import write_all
from engines.sandbox.processes import Usage
from engines.sandbox.types import Limits, Sandbox

_STARTUP_SECONDS = 300.0
_STACKS_SECONDS, _STACKS_PATIENCE_SECONDS = 0.3, 5.0
_FRAME = '  File "'
"""How `faulthandler` begins the line of a frame."""
_REPRO = '''"""Runs this job again, on the inputs in this directory.

    python repro.py           in the sandbox, with the same limits
    python repro.py --bare    in this process, for a debugger: runs the model's code WITHOUT any protection

Needs the `engines` package and what the job imports.
"""

from pathlib import Path

from engines.sandbox.repro import rerun

rerun(Path(__file__).resolve().parent)
'''


class Killed(EngineFailure):
    """`Child.kill` ended the job before it was done."""

    def __init__(self) -> None:
        """Name the reason."""
        super().__init__(FailureReason.WORKER_LOST, "The work was stopped before it was done.", retryable=True)


class Child:
    """One process in the sandbox, for one job.

    Created by `spawn`; as an async context manager it kills the process at the end.

    Attributes:
        memory_bytes: Resident memory of its processes when it was last read, ten times a second while the job runs.
        peak_memory_bytes: The highest of these figures.
    """

    def __init__(self, handles: Handles, following: Following) -> None:
        """Use `spawn` instead."""
        self._handles = handles
        self._following = following
        self._used = False
        self._requests: int | None = handles.requests
        self._ending: asyncio.Task[None] | None = None
        self.memory_bytes = 0
        self.peak_memory_bytes = 0

    @classmethod
    async def spawn(
        cls,
        workdir: Path,
        preload: Sequence[str] = (),
        *,
        readable: Sequence[Path] = (),
        devices: Sequence[str] = (),
    ) -> Self:
        """Start a process inside the sandbox and let it import modules; returns before it has (see `ready`).

        Args:
            workdir: The one directory in which the job may write; created if absent. Inputs can be put into it later.
            preload: Modules that the job will need.
            readable: Further files or directories that the job may read; code in them is trusted like a package.
            devices: Patterns of the files of accelerators that the job may use: `/dev/nvidia*`.
        """
        handles = launch(workdir, preload, readable, devices)
        try:
            return cls(handles, await Following.start(handles))
        except BaseException:
            handles.process.kill()
            handles.process.wait()
            raise

    @property
    def workdir(self) -> Path:
        """The work directory, absolute and without links."""
        return self._handles.workdir

    @property
    def pid(self) -> int:
        """Process id of the child's supervisor."""
        return self._handles.process.pid

    @property
    def sandbox(self) -> Sandbox:
        """The layers that are active around a child that is ready."""
        return self._following.ready.result()

    @property
    def risk(self) -> str:
        """The step that the job declares risky (`Reporter.risk`); empty if there is none."""
        return self._following.risk

    @property
    def alive(self) -> bool:
        """Whether the process still exists."""
        return not self._following.exited.is_set()

    async def ready(self) -> None:
        """Wait until the modules are imported.

        Raises:
            EngineFailure: TOOLCHAIN_UNAVAILABLE names a module that cannot be imported; TOOLCHAIN_CRASHED if
                importing ended the process; `Killed` if `kill` was called.
        """
        try:
            async with asyncio.timeout(_STARTUP_SECONDS):
                await asyncio.shield(self._following.ready)
        except TimeoutError:
            await self.kill()
            raise EngineFailure(
                FailureReason.TOOLCHAIN_UNAVAILABLE,
                f"The process for the work did not become ready within {_STARTUP_SECONDS:g} s.",
                evidence="\n".join(self._following.tail),
                retryable=True,
            ) from None

    async def run(
        self,
        entry: str,
        request: dict[str, Any],
        limits: Limits,
        on_progress: OnProgress | None = None,
        on_log: OnLog | None = None,
    ) -> dict[str, Any]:
        """Do the one job of this child; afterwards it and everything that it started are gone.

        Args:
            entry: "package.module:function"; called as `function(request, workdir, reporter)` and returns a dict.
            request: JSON-ready values.
            limits: Limits of the job.
            on_progress: Called or awaited with each report, in order.
            on_log: Called or awaited with each line printed, in order.

        Raises:
            EngineFailure: The failure of the job; `Killed` if `kill` was called meanwhile.
            RuntimeError: The child has already done its job.
        """
        if self._used:
            raise RuntimeError("a child does one job; spawn another")
        self._used = True
        self._following.on_progress, self._following.on_log = on_progress, on_log
        try:
            await self.ready()
            return await self._do(entry, request, limits)
        finally:
            await self.kill()

    async def kill(self) -> None:
        """Kill the process and everything that it started; returns when all are gone, also if called again."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await asyncio.shield(self._ending)

    async def __aenter__(self) -> Self:
        """Return the child."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Kill the child."""
        await self.kill()

    async def _do(self, entry: str, request: dict[str, Any], limits: Limits) -> dict[str, Any]:
        await asyncio.to_thread(_write_repro, self.workdir, entry, request, limits, self._handles.readable)
        job = frames.encode({"entry": entry, "request": request, "memory_bytes": limits.memory_bytes})
        following = self._following
        watcher = asyncio.create_task(
            watch_usage(self.pid, self.workdir, limits, log=following.tail, fail=following.fail, note=self._note)
        )
        try:
            async with asyncio.timeout(limits.timeout_seconds - limits.spent_seconds) as clock:
                await self._send(job)
                return await asyncio.shield(self._following.result)
        except TimeoutError:
            if not clock.expired():
                raise  # from a listener
            await self._ask_for_stacks()
            raise outcome.timed_out(limits, self._following.progress, self._following.tail) from None
        finally:
            watcher.cancel()

    async def _ask_for_stacks(self) -> None:
        """Let the worker print the stack of each thread, so that the evidence shows what it was doing.

        On a busy machine it takes a while to hear of that; a job that hears no signal is not waited for long.
        """
        following, before, ends = self._following, self._following.lines, monotonic() + _STACKS_PATIENCE_SECONDS
        self._handles.process.send_signal(signal.SIGUSR1)
        begun = False
        while self.alive and not begun and monotonic() < ends:
            printed = list(following.tail)[-(following.lines - before) :] if following.lines > before else []
            begun = any(line.startswith(_FRAME) for line in printed)
            await asyncio.sleep(_STACKS_SECONDS)  # also when they have begun: the rest follows

    def _note(self, used: Usage) -> None:
        self.memory_bytes = used.memory_bytes
        self.peak_memory_bytes = max(self.peak_memory_bytes, used.memory_bytes)

    async def _send(self, job: bytes) -> None:
        requests, self._requests = self._requests, None
        if requests is not None:
            await write_all(requests, job)

    async def _end(self) -> None:
        self._following.fail(Killed())
        await end_tree(self._handles.process, self._following.exited)
        if self._requests is not None:
            os.close(self._requests)
        await self._following.finish()


def run_sync(
    entry: str,
    request: dict[str, Any],
    workdir: Path,
    limits: Limits,
    *,
    readable: Sequence[Path] = (),
    on_progress: OnProgress | None = None,
    on_log: OnLog | None = None,
) -> dict[str, Any]:
    """Do one job in a child and wait for it; for callers without an event loop.

    Arguments and errors are those of `Child.spawn` and `Child.run`.
    """

    async def job() -> dict[str, Any]:
        child = await Child.spawn(workdir, readable=readable)
        return await child.run(entry, request, limits, on_progress, on_log)

    return asyncio.run(job())


def _write_repro(workdir: Path, entry: str, request: dict[str, Any], limits: Limits, readable: Sequence[Path]) -> None:
    """Write request.json and repro.py into the work directory."""
    job = {
        "entry": entry,
        "request": request,
        "memory_bytes": limits.memory_bytes,
        "timeout_seconds": limits.timeout_seconds,
        "readable": [str(path) for path in readable],
    }
    for name, text in (("request.json", json.dumps(job, indent=2)), ("repro.py", _REPRO)):
        path = workdir / name
        path.unlink(missing_ok=True)  # Never write through a link that came with an input.
        path.write_text(text, encoding="utf-8")
