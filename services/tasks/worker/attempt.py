"""One attempt at a task, on the worker: inputs in, the job, outputs out. It reports, and raises what went wrong."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.internal.v1 import event_pb2
from lathe.type.v1 import failure_pb2
from lathe.type.v1.digest_pb2 import Digest, File

from engines.failures import EngineFailure, FailureReason
from engines.sandbox import Limits, Progress
from services.platform.messages import MAX_OUTCOME_BYTES
from services.tasks.kind import WorkKind, unpack
from services.tasks.worker.blobs import Blobs, patiently
from services.tasks.worker.inputs import TRANSFERS, Inputs
from services.tasks.worker.runner import Slot
from services.tasks.worker.timings import Timings

# Shares of the whole that fetching and uploading take on the progress bar.
_FETCHED = 0.05
_EXECUTED = 0.95

BUILT = "built"
"""Folder in the work directory for what a worker that is not the device has built."""

Report = Callable[[Any, float, str], None]


class Attempt:
    """Runs an assignment in a slot. `report` takes stage, progress from 0 to 1, and words."""

    def __init__(
        self,
        kind: WorkKind,
        assignment: event_pb2.TaskAssignment,
        slot: Slot,
        blobs: Blobs,
        report: Report,
        *,
        timings: Timings,
    ) -> None:
        self._kind = kind
        self._assignment = assignment
        self._slot = slot
        self._blobs = blobs
        self._timings = timings
        self._report = report

    async def run(self, on_log: Callable[[str], None]) -> AnyMessage:
        """Do the work and return the outcome.

        Raises:
            EngineFailure: It cannot be done, or not here and now (retryable).
        """
        work = self._kind.work_type()
        if not unpack(self._assignment.work, work):
            found = self._assignment.work.type_url
            raise EngineFailure(FailureReason.INVALID_SPEC, f"The work is a {found}, which this worker does not know.")
        built = self._built()
        inputs = Inputs(self._blobs, self._slot.workdir, self._fetched)
        await inputs.fetch([*self._kind.inputs(work), *built], self._kind.file_lists(work))
        owner = self._assignment.owner_key
        lent = await self._timings.lend(owner, self._slot.workdir)
        self._enter(failure_pb2.TASK_STAGE_EXECUTING, _FETCHED, "")
        limits = Limits(self._assignment.memory_limit_bytes, float(self._assignment.timeout_seconds))
        request = self._kind.request(work) | ({"built": BUILT} if built else {})
        result = await self._slot.run(request, limits, self._progressed, on_log)
        self._enter(failure_pb2.TASK_STAGE_UPLOADING_OUTPUTS, _EXECUTED, "")
        files = await self._upload()
        try:
            outcome = await self._kind.outcome(result, files)
        except ValueError as error:
            raise EngineFailure(FailureReason.INTERNAL_ERROR, f"The engine's answer is not usable: {error}") from error
        if (size := outcome.ByteSize()) > MAX_OUTCOME_BYTES:
            raise EngineFailure(
                FailureReason.INVALID_SPEC,
                f"The result is a message of {size} bytes; at most {MAX_OUTCOME_BYTES} are allowed.",
                suggested_fix="Ask for less in one task: fewer components, classes, slices or candidates.",
            )
        await self._timings.keep(owner, self._slot.workdir, lent)
        return _packed(outcome)

    def _built(self) -> list[tuple[str, Digest]]:
        """Return the files from which this attempt goes on, if the task was handed on to it."""
        outcome = self._kind.outcome_type()
        if not unpack(self._assignment.built, outcome):
            return []
        return [(f"{BUILT}/{file.path}", file.digest) for file in self._kind.built(outcome)]

    def _enter(self, stage: Any, progress: float, message: str) -> None:
        self._report(stage, progress, message)

    def _fetched(self, part: float, message: str) -> None:
        self._report(failure_pb2.TASK_STAGE_FETCHING_INPUTS, _FETCHED * part, message)

    def _progressed(self, progress: Progress) -> None:
        share = _FETCHED + (_EXECUTED - _FETCHED) * min(max(progress.fraction, 0.0), 1.0)
        self._report(failure_pb2.TASK_STAGE_EXECUTING, share, progress.message)

    async def _upload(self) -> list[File]:
        if not self._kind.outputs_dir:
            return []
        root = self._slot.workdir / self._kind.outputs_dir
        paths = await asyncio.to_thread(_regular_files, root)
        gate = asyncio.Semaphore(TRANSFERS)

        async def upload(path: str) -> File:
            async with gate:
                digest = await patiently(lambda: self._blobs.put_file(root / path), f"the output {path}")
            return File(path=path, digest=digest)

        return list(await asyncio.gather(*(upload(path) for path in paths)))


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


def _packed(outcome: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(outcome, deterministic=True)
    return packed
