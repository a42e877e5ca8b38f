"""The parent's side: start a child, give it one job, watch it, and end it with all that it started."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from engines.failures import EngineFailure, FailureReason
from engines.sandbox import frames, outcome, repro
from engines.sandbox.launch import Handles, launch
from engines.sandbox.layers import Sandbox
from engines.sandbox.pipes import Pipe, write_all
from engines.sandbox.types import Limits, Progress
from engines.sandbox.watch import end_tree, watch_usage

OnProgress = Callable[[Progress], Awaitable[None] | None]
OnLog = Callable[[str], Awaitable[None] | None]

_log = logging.getLogger(__name__)
_TAIL_LINES = 40
_STARTUP_SECONDS = 300.0
_STACKS_SECONDS = 0.3
_GRACE_SECONDS = 2.0
_DRAIN_SECONDS = 10.0
_MAX_STATUS_BYTES = 4096


class Killed(EngineFailure):
    """`Child.kill` ended the job before it was done."""

    def __init__(self) -> None:
        """Name the reason."""
        super().__init__(FailureReason.WORKER_LOST, "The work was stopped before it was done.", retryable=True)


class Child:
    """One process in the sandbox, for one job.

    Made by `spawn`; usable as an async context manager, which kills it at the end.
    """

    def __init__(self, handles: Handles) -> None:
        """Use `spawn` instead."""
        self.workdir = handles.workdir
        self._handles = handles
        loop = asyncio.get_running_loop()
        self._ready: asyncio.Future[Sandbox] = loop.create_future()
        self._result: asyncio.Future[dict[str, Any]] = loop.create_future()
        for future in (self._ready, self._result):
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._exited = asyncio.Event()
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._last_progress: Progress | None = None
        self._on_progress: OnProgress | None = None
        self._on_log: OnLog | None = None
        self._used = False
        self._requests_open = True
        self._readers: list[asyncio.Task[None]] = []
        self._pipes: list[Pipe] = []
        self._ending: asyncio.Task[None] | None = None

    @classmethod
    async def spawn(cls, workdir: Path, preload: Sequence[str] = (), *, readable: Sequence[Path] = ()) -> Self:
        """Start a process inside the sandbox and let it import modules; returns before it has (see `ready`).

        Args:
            workdir: The one directory in which the job may write; created if absent. Inputs can be put into it later.
            preload: Modules that the job will need.
            readable: Further files or directories that the job may read; code in them is trusted like a package.
        """
        child = cls(launch(workdir, preload, readable))
        await child._attach()
        return child

    @property
    def pid(self) -> int:
        """Process id of the child's supervisor."""
        return self._handles.process.pid

    @property
    def sandbox(self) -> Sandbox:
        """The layers that are active around a child that is ready."""
        return self._ready.result()

    @property
    def alive(self) -> bool:
        """Whether the process still exists."""
        return not self._exited.is_set()

    async def ready(self) -> None:
        """Wait until the modules are imported.

        Raises:
            EngineFailure: TOOLCHAIN_UNAVAILABLE names a module that cannot be imported; TOOLCHAIN_CRASHED when
                importing ended the process.
        """
        try:
            async with asyncio.timeout(_STARTUP_SECONDS):
                await asyncio.shield(self._ready)
        except TimeoutError:
            await self.kill()
            raise EngineFailure(
                FailureReason.TOOLCHAIN_UNAVAILABLE,
                f"The process for the work did not become ready within {_STARTUP_SECONDS:g} s.",
                evidence="\n".join(self._tail),
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
            limits: What the job may use.
            on_progress: Called or awaited with each report, in order.
            on_log: Called or awaited with each line printed, in order.

        Raises:
            EngineFailure: What went wrong; `Killed` if `kill` was called meanwhile.
            RuntimeError: The child has had its job.
        """
        if self._used:
            raise RuntimeError("a child does one job; spawn another")
        self._used = True
        try:
            await self.ready()
            self._on_progress, self._on_log = on_progress, on_log
            return await self._do(entry, request, limits)
        finally:
            await self.kill()

    async def kill(self) -> None:
        """End the process and everything that it started, at once; returns when all are gone, also if called again."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        await asyncio.shield(self._ending)

    async def __aenter__(self) -> Self:
        """Return the child."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Kill the child."""
        await self.kill()

    async def _attach(self) -> None:
        control, log, status = [
            await Pipe.open(descriptor)
            for descriptor in (self._handles.control, self._handles.log, self._handles.status)
        ]
        self._pipes = [control, log, status]
        followers = (self._follow_log(log), self._follow_control(control), self._follow_status(status))
        self._readers = [asyncio.create_task(follower) for follower in followers]

    async def _do(self, entry: str, request: dict[str, Any], limits: Limits) -> dict[str, Any]:
        await asyncio.to_thread(repro.write, self.workdir, entry, request, limits)
        job = frames.encode({"entry": entry, "request": request, "memory_bytes": limits.memory_bytes})
        async with self._watched(limits):
            try:
                async with asyncio.timeout(limits.timeout_seconds):
                    self._requests_open = False
                    await write_all(self._handles.requests, job)
                    return await asyncio.shield(self._result)
            except TimeoutError:
                self._handles.process.send_signal(signal.SIGUSR1)
                await asyncio.sleep(_STACKS_SECONDS)
                raise outcome.timed_out(limits, self._last_progress, self._tail) from None

    @asynccontextmanager
    async def _watched(self, limits: Limits) -> AsyncIterator[None]:
        watcher = asyncio.create_task(watch_usage(self.pid, limits, self._tail, self._fail))
        try:
            yield
        finally:
            watcher.cancel()

    async def _follow_log(self, pipe: Pipe) -> None:
        async for line in pipe.lines():
            self._tail.append(line)
            await self._tell(self._on_log, line)

    async def _follow_control(self, pipe: Pipe) -> None:
        try:
            async for message in pipe.messages():
                await self._receive(message)
        except (frames.FrameError, LookupError, TypeError, ValueError) as error:
            self._fail(outcome.broken_protocol(error, self._tail))
            return
        # The pipe ends when the process does; where it does not, the job has closed it.
        try:
            async with asyncio.timeout(_GRACE_SECONDS):
                await self._exited.wait()
        except TimeoutError:
            self._fail(outcome.closed_control(self._tail))

    async def _receive(self, message: dict[str, Any]) -> None:
        match message["kind"]:
            case "ready" if not self._ready.done():
                self._ready.set_result(Sandbox.from_message(message["layers"]))
                _log.info("sandbox %s", self.sandbox.sentence())
            case "progress":
                self._last_progress = Progress(float(message["fraction"]), str(message["message"]))
                await self._tell(self._on_progress, self._last_progress)
            case "result" if isinstance(message["result"], dict) and not self._result.done():
                self._result.set_result(message["result"])
            case "failure" | "violation":
                self._fail(EngineFailure.from_dict(message["failure"]))

    async def _follow_status(self, pipe: Pipe) -> None:
        """Learn how the worker ended from its supervisor, whose pipe the worker cannot reach."""
        status = await pipe.rest(_MAX_STATUS_BYTES)
        await asyncio.to_thread(self._handles.process.wait)
        self._exited.set()
        # What the worker said before it ended counts first.
        await asyncio.wait(self._readers[:2], timeout=_GRACE_SECONDS)
        self._fail(outcome.ended_early(_exit_code(status), self._tail))

    async def _tell(self, listener: Callable[[Any], Awaitable[None] | None] | None, value: Progress | str) -> None:
        if listener is None:
            return
        try:
            answer = listener(value)
            if answer is not None:
                await answer
        except Exception as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """The first failure is the one that counts; one after the result does not."""
        for future in (self._ready, self._result):
            if not future.done():
                future.set_exception(error)

    async def _end(self) -> None:
        self._fail(Killed())
        await end_tree(self._handles.process, self._exited)
        if self._requests_open:
            os.close(self._handles.requests)
        await asyncio.wait(self._readers, timeout=_DRAIN_SECONDS)
        for reader in self._readers:
            reader.cancel()
        for pipe in self._pipes:
            pipe.close()


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


def _exit_code(status: bytes) -> int | None:
    try:
        return int(json.loads(status)["exit"])
    except (ValueError, LookupError, TypeError):
        return None
