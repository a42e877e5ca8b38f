"""Following a child: its messages, its log, the resources that it uses, and its end."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from engines.failures import EngineFailure
from engines.sandbox import disk, outcome, processes
from engines.sandbox.launch import Handles
from engines.sandbox.pipes import Pipe
from engines.sandbox.types import Limits, Progress, Sandbox

OnProgress = Callable[[Progress], Awaitable[None] | None]
OnLog = Callable[[str], Awaitable[None] | None]

_log = logging.getLogger("engines.sandbox")
_TAIL_LINES = 40
_MAX_TEXT = 64 * 1024
_MAX_STEP = 1000
_MAX_STATUS_BYTES = 4096
_GRACE_SECONDS = 2.0
_DRAIN_SECONDS = 10.0
_WATCH_SECONDS = 0.1
_SWEEP_SECONDS = 0.01


class Following:
    """Reads the three pipes of a child until they end.

    Attributes:
        ready: The child's layers, once it has imported its modules; or why it could not.
        result: The job's result, or the first failure.
        exited: Set when the process and its supervisor are gone and reaped.
        tail: The last lines that the child printed.
        lines: How many it has printed.
        progress: The last progress report.
        risk: The step that the job declares risky; empty if there is none.
        on_progress: Called or awaited with each report.
        on_log: Called or awaited with each line.
    """

    def __init__(self, handles: Handles) -> None:
        """Use `start` instead."""
        self._process = handles.process
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[Sandbox] = loop.create_future()
        self.result: asyncio.Future[dict[str, Any]] = loop.create_future()
        for future in (self.ready, self.result):
            # Retrieved here, so that asyncio does not warn about exceptions of a child that nobody awaits.
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.exited = asyncio.Event()
        self.tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self.lines = 0
        self.progress: Progress | None = None
        self.risk = ""
        self.on_progress: OnProgress | None = None
        self.on_log: OnLog | None = None
        self._pipes: list[Pipe] = []
        self._readers: list[asyncio.Task[None]] = []

    @classmethod
    async def start(cls, handles: Handles) -> Following:
        """Take over the pipes of a child that has just been started."""
        following = cls(handles)
        control, log, status = [
            await Pipe.open(descriptor) for descriptor in (handles.control, handles.log, handles.status)
        ]
        following._pipes = [control, log, status]
        loops = (following._follow_log(log), following._follow_control(control), following._follow_status(status))
        following._readers = [asyncio.create_task(loop) for loop in loops]
        return following

    def fail(self, error: Exception) -> None:
        """Note a failure; only the first counts, and none after the result."""
        for future in (self.ready, self.result):
            if not future.done():
                future.set_exception(error)

    async def finish(self) -> None:
        """Read the rest of an ended child's output, and close the pipes."""
        await asyncio.wait(self._readers, timeout=_DRAIN_SECONDS)
        for reader in self._readers:
            reader.cancel()
        for pipe in self._pipes:
            pipe.close()

    async def _follow_log(self, pipe: Pipe) -> None:
        async for line in pipe.lines():
            self.tail.append(line)
            self.lines += 1
            await self._tell(self.on_log, line)

    async def _follow_control(self, pipe: Pipe) -> None:
        try:
            async for message in pipe.messages():
                await self._receive(message)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            self.fail(outcome.broken_protocol(error, self.tail))
            return
        # The pipe ends with the process; otherwise the job has closed it.
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                await self.exited.wait()
        except TimeoutError:
            self.fail(outcome.closed_control(self.tail))

    async def _receive(self, message: dict[str, Any]) -> None:
        match message["kind"]:
            case "ready" if not self.ready.done():
                sandbox = Sandbox.from_message(message["layers"])
                self.ready.set_result(sandbox)
                _announce(sandbox.sentence(), sandbox.confined)
            case "progress":
                fraction = float(message["fraction"])
                self.progress = Progress(fraction if 0 <= fraction <= 1 else 0.0, str(message["message"])[:_MAX_TEXT])
                await self._tell(self.on_progress, self.progress)
            case "risk":
                self.risk = str(message["step"])[:_MAX_STEP]
            case "result" if isinstance(message["result"], dict) and not self.result.done():
                self.result.set_result(message["result"])
            case "failure" | "violation":
                self.fail(_failure(message["failure"]))

    async def _follow_status(self, pipe: Pipe) -> None:
        """Learn from the supervisor how the worker ended, through a pipe that the worker cannot reach."""
        status = await pipe.rest(_MAX_STATUS_BYTES)
        await asyncio.to_thread(self._process.wait)
        self.exited.set()
        # Messages that the worker sent before it ended count first.
        await asyncio.wait(self._readers[:2], timeout=_GRACE_SECONDS)
        self.fail(outcome.ended_early(_exit_code(status), self.tail))

    async def _tell(self, listener: Callable[[Any], Awaitable[None] | None] | None, value: Progress | str) -> None:
        if listener is None:
            return
        try:
            answer = listener(value)
            if answer is not None:
                await answer
        except Exception as error:  # An error of the caller's listener fails the job.
            self.fail(error)


def _failure(values: dict[str, Any]) -> EngineFailure:
    """Return the failure that a child reports, which may be any JSON, with bounded texts and known fields."""
    texts = {name: str(value)[:_MAX_TEXT] for name, value in values.items() if name != "retryable"}
    return EngineFailure.from_dict({**texts, "retryable": values.get("retryable") is True})


@cache
def _announce(sentence: str, confined: bool) -> None:
    """Log the layers once; every child of a process has the same."""
    if confined:
        _log.info("sandbox %s", sentence)
    else:
        _log.warning("this machine cannot confine untrusted code; sandbox %s", sentence)


def _exit_code(status: bytes) -> int | None:
    try:
        return int(json.loads(status)["exit"])
    except (ValueError, LookupError, TypeError):
        return None


async def watch_usage(
    pid: int,
    workdir: Path,
    limits: Limits,
    *,
    log: Iterable[str],
    fail: Callable[[Exception], None],
    note: Callable[[processes.Usage], None],
) -> None:
    """Check the whole process tree ten times a second and `note` what it uses; call `fail` if that is too much.

    If the disk is almost full, work stops whose files take more of it than is left. Work that cannot be watched stops.
    """
    try:
        fail(await _exceeded(pid, workdir, limits, log, note))
    except Exception as error:
        _log.exception("the work of process %d cannot be watched", pid)
        fail(error)


async def _exceeded(
    pid: int, workdir: Path, limits: Limits, log: Iterable[str], note: Callable[[processes.Usage], None]
) -> EngineFailure:
    """Return the failure of the work, once it uses too much."""
    expendables = processes.Expendables(pid)
    while True:
        expendables.offer()
        used = processes.usage(pid, limits.memory_bytes)
        note(used)
        if used.memory_bytes > limits.memory_bytes:
            return outcome.over_memory(used, limits, log)
        if used.processes > outcome.MAX_PROCESSES or used.threads > outcome.MAX_THREADS:
            return outcome.too_many_tasks(used, log)
        if disk.is_short(workdir):
            held, free = await asyncio.to_thread(disk.held, workdir, pid), disk.free(workdir)
            if held > free:
                return outcome.disk_full(held, free, log)
        await asyncio.sleep(_WATCH_SECONDS)


async def end_tree(process: subprocess.Popen[bytes], exited: asyncio.Event) -> None:
    """Kill everything under the supervisor, and then the supervisor unless it ends by itself.

    The supervisor goes last because it adopts and reaps the processes below it.
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
