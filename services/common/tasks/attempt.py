"""One attempt at a task, on the worker: inputs in, the job, outputs out. It reports, and raises what went wrong."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.type.v1 import event_pb2, failure_pb2
from lathe.type.v1.digest_pb2 import Digest, File

from engines.failures import EngineFailure, FailureReason
from engines.sandbox import Limits, Progress
from services.common.tasks.kind import WorkKind
from services.common.tasks.runner import Slot

TRANSFERS = 4
STORE_TRIES = 6
STORE_RETRY_SECONDS = 0.5
# Shares of the whole that fetching and uploading take on the progress bar.
_FETCHED = 0.05
_EXECUTED = 0.95

Report = Callable[[Any, float, str], None]


class Blobs(Protocol):
    """The content store, as a worker uses it."""

    async def put_file(self, path: Path) -> Digest:
        """Store a file."""

    async def put_bytes(self, data: bytes) -> Digest:
        """Store bytes."""

    async def fetch(self, digest: Digest, path: Path) -> None:
        """Write a blob to a file, verified."""


class Attempt:
    """Runs an assignment in a slot. `report` takes stage, progress from 0 to 1, and words."""

    def __init__(
        self, kind: WorkKind, assignment: event_pb2.TaskAssignment, slot: Slot, blobs: Blobs, report: Report
    ) -> None:
        self._kind = kind
        self._assignment = assignment
        self._slot = slot
        self._blobs = blobs
        self._report = report

    async def run(self, on_log: Callable[[str], None]) -> AnyMessage:
        """Do the work and return the outcome.

        Raises:
            EngineFailure: It cannot be done, or not here and now (retryable).
        """
        work = self._kind.work_type()
        if not self._assignment.work.Unpack(work):
            found = self._assignment.work.type_url
            raise EngineFailure(FailureReason.INVALID_SPEC, f"The work is a {found}, which this worker does not know.")
        await self._fetch(self._kind.inputs(work))
        self._enter(failure_pb2.EXECUTING, _FETCHED, "")
        limits = Limits(self._assignment.memory_limit_bytes, float(self._assignment.timeout_seconds))
        result = await self._slot.run(self._kind.request(work), limits, self._progressed, on_log)
        self._enter(failure_pb2.UPLOADING_OUTPUTS, _EXECUTED, "")
        files = await self._upload()
        try:
            outcome = await self._kind.outcome(result, files)
        except ValueError as error:
            raise EngineFailure(FailureReason.INTERNAL_ERROR, f"The engine's answer is not usable: {error}") from error
        return _packed(outcome)

    def _enter(self, stage: Any, progress: float, message: str) -> None:
        self._report(stage, progress, message)

    def _progressed(self, progress: Progress) -> None:
        share = _FETCHED + (_EXECUTED - _FETCHED) * min(max(progress.fraction, 0.0), 1.0)
        self._report(failure_pb2.EXECUTING, share, progress.message)

    async def _fetch(self, inputs: Sequence[tuple[str, Digest]]) -> None:
        if not inputs:
            return
        gate = asyncio.Semaphore(TRANSFERS)

        async def fetch(path: str, digest: Digest) -> None:
            target = self._slot.workdir.joinpath(*_parts(path))
            target.parent.mkdir(parents=True, exist_ok=True)
            async with gate:
                await _from_store(lambda: self._blobs.fetch(digest, target), f"the input {path}")

        async with asyncio.TaskGroup() as group:
            for path, digest in inputs:
                group.create_task(fetch(path, digest))

    async def _upload(self) -> list[File]:
        if not self._kind.outputs_dir:
            return []
        root = self._slot.workdir / self._kind.outputs_dir
        paths = await asyncio.to_thread(_regular_files, root)
        gate = asyncio.Semaphore(TRANSFERS)

        async def upload(path: str) -> File:
            async with gate:
                digest = await _from_store(lambda: self._blobs.put_file(root / path), f"the output {path}")
            return File(path=path, digest=digest)

        return list(await asyncio.gather(*(upload(path) for path in paths)))


async def _from_store(action: Callable[[], Any], what: str) -> Any:
    """Try an action on the object store for some seconds, which outlasts a restart."""
    for attempt in range(1, STORE_TRIES + 1):
        try:
            return await action()
        except (asyncio.CancelledError, EngineFailure):
            raise
        except Exception as error:
            if _is_gone(error):
                raise EngineFailure(
                    FailureReason.INPUT_UNAVAILABLE,
                    f"The object store does not have {what}.",
                    evidence=str(error)[:500],
                    suggested_fix="Upload the file again, then resubmit the task.",
                ) from error
            if attempt == STORE_TRIES:
                raise EngineFailure(
                    FailureReason.INFRASTRUCTURE,
                    f"The object store did not answer for {what}.",
                    evidence=f"{type(error).__name__}: {error}"[:500],
                    suggested_fix="See whether the object store is up.",
                    retryable=True,
                ) from error
            await asyncio.sleep(STORE_RETRY_SECONDS * attempt)
    raise AssertionError("unreachable")


def _is_gone(error: Exception) -> bool:
    code = getattr(getattr(error, "code", None), "name", "")
    return isinstance(error, FileNotFoundError | KeyError) or code in {"NOT_FOUND", "DATA_LOSS"}


def _regular_files(root: Path) -> list[str]:
    """Return the files under a folder that untrusted code wrote: links could name files of the worker itself."""
    found: list[str] = []
    if not os.path.lexists(root):
        return found
    if not stat.S_ISDIR(root.lstat().st_mode):
        raise EngineFailure(FailureReason.UNSAFE_MODEL, f"{root.name} is not a folder of the work directory.")
    for folder, folders, files in os.walk(root):
        for entry in [*folders, *files]:
            path = Path(folder, entry)
            mode = path.lstat().st_mode
            if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
                name = path.relative_to(root).as_posix()
                raise EngineFailure(FailureReason.UNSAFE_MODEL, f"The output {name} is a link or a device, not a file.")
            if stat.S_ISREG(mode):
                found.append(path.relative_to(root).as_posix())
    return sorted(found)


def _parts(path: str) -> tuple[str, ...]:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts:
        raise EngineFailure(FailureReason.INVALID_SPEC, f"The input path {path!r} leads out of the work directory.")
    return parts


def _packed(outcome: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(outcome, deterministic=True)
    return packed
