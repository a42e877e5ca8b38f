"""SaveModel: the form that a search recommends becomes a version, and is copied to the bucket beside its source."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.message import Message
from lathe.internal.v1.event_pb2 import TaskAssignment
from lathe.internal.v1.optimization_pb2 import OptimizationOutcome, OptimizationWork
from lathe.optimizer.v1.optimization_service_pb2 import OptimizationTask, SaveModelRequest
from lathe.registry.v1.model_service_pb2 import GetModelRequest, GetModelVersionRequest, ModelVersion
from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub
from lathe.type.v1.digest_pb2 import File
from lathe.type.v1.task_pb2 import TASK_STATE_SUCCEEDED, TaskState

from services.database.leases import Leases
from services.optimizer.places import Places
from services.optimizer.rules import place_of
from services.platform.errors import LatheError, failed_precondition, from_rpc_error, is_transient
from services.platform.words import word
from services.process.composition import Platform
from services.siblings.fitting import description_of
from services.siblings.packages import MANIFEST, Packages, output_model, package_version
from services.storage.folders import Folders
from services.tasks.api.service import TaskEngine
from services.tasks.kind import unpack
from services.tasks.state.rows import Change, TaskRow

MODEL_FOLDER = "model"
SOURCE_FOLDER = "source"


class Saver:
    """Saves the results of tasks. Every step can be repeated: the next call completes an interrupted one."""

    def __init__(self, platform: Platform, engine: TaskEngine) -> None:
        registry = platform.channel("registry")
        self._models = ModelServiceStub(registry)
        self._packages = Packages(registry, platform.cas)
        self._cas = platform.cas
        self._places = Places(platform.database, self._packages.exists)
        self._folders = Folders(platform.settings)
        self._engine = engine
        self._leases = Leases(platform.database)

    async def save(self, request: SaveModelRequest) -> OptimizationTask:
        """Register the form that a task recommends, and lay it out in the bucket.

        Raises:
            LatheError: NOT_FOUND for the task or the model; FAILED_PRECONDITION if the task has not SUCCEEDED
                (TASK_NOT_SUCCEEDED), is saved under another model (ALREADY_SAVED), its source is gone (SOURCE_GONE),
                or another task has its place (OUTPUT_LOCATION_TAKEN).
        """
        await self._engine.handlers.row(request.name)
        # One call saves a task at a time, on whichever replica; a call that waited finds it saved.
        async with self._leases.hold(f"saving {request.name}"):
            row = await self._engine.handlers.row(request.name)
            task: OptimizationTask = self._engine.handlers.present(row)
            _require_succeeded(task)
            saved = task.result.model_version
            if not saved or not await self._packages.exists(saved):
                if not await self._finish_earlier(task):
                    await self._make(task, row, request.model)
                await self._write(row, task.result)
            _require_model(task, request.model)
        return await self._read(request.name)

    async def _finish_earlier(self, task: OptimizationTask) -> bool:
        """Fill in what an earlier, interrupted call registered; False if it registered nothing."""
        place = await self._places.kept(task.name)
        version = await self._packages.made_by(task) if place else ""
        if version:
            await self._places.registered(task.name, version)
            task.result.model_version, task.result.saved_location = version, place
        return bool(version)

    async def _make(self, task: OptimizationTask, row: TaskRow, model: str) -> None:
        """Lay the form out, register it, and fill that in."""
        task.spec.output_model = model or task.spec.output_model
        source = await self._look_up(task)
        async with self._place(task) as place:
            task.result.model_version = await self._register(task, row, source, place)
        task.result.saved_location = place

    async def _look_up(self, task: OptimizationTask) -> ModelVersion:
        await self._models.GetModel(GetModelRequest(name=output_model(task.spec)))
        try:
            return await self._models.GetModelVersion(GetModelVersionRequest(name=task.spec.model_version))
        except grpc.aio.AioRpcError as error:
            if error.code() != grpc.StatusCode.NOT_FOUND:
                raise
            raise failed_precondition(
                "SOURCE_GONE",
                f"'{task.spec.model_version}', from which '{task.name}' was made, is deleted, so that its files cannot "
                "be copied beside the result. Create the version again, and optimize that.",
                task.name,
            ) from None

    @asynccontextmanager
    async def _place(self, task: OptimizationTask) -> AsyncIterator[str]:
        """Keep the task's place, and give it up if the block fails for good."""
        place = place_of(task.name, task.spec)
        await self._places.keep(task.name, place)
        try:
            yield place
        except (grpc.aio.AioRpcError, LatheError) as error:
            known = from_rpc_error(error) if isinstance(error, grpc.aio.AioRpcError) else error
            if not is_transient(known.code):  # then nothing was registered
                await self._places.give_up(task.name)
            raise

    async def _register(self, task: OptimizationTask, row: TaskRow, source: ModelVersion, place: str) -> str:
        """Copy everything to its place, then register the version, so that a version never misses its files."""
        manifest = await self._cas.read(task.result.manifest)
        files = laid_out(source.files, task.result.files)
        await self._folders.sweep(place, {file.path for file in files})
        await self._folders.copy(place, files, missing_only=False)
        version = package_version(task, task.result.files, _architectures(row), source, manifest)
        # A task that shares another's outcome has none of its own.
        outcome = OptimizationOutcome.FromString(row.outcome or b"")
        name = await self._packages.register(task, version, description_of(outcome))
        await self._places.registered(task.name, name)
        return name

    async def _write(self, row: TaskRow, result: Message) -> None:
        """Store the result with what saving adds to it, despite concurrent changes of the task."""
        ledger = self._engine.ledger
        while True:
            stored: Any = ledger.codec.message(row)
            live = ledger.codec.live(ledger.codec.snapshot(row), stored.origin, result)
            if await ledger.commit([Change(row, row._replace(live=live))]):
                return
            row = await self._engine.handlers.row(stored.name)

    async def _read(self, name: str) -> OptimizationTask:
        handlers = self._engine.handlers
        task: OptimizationTask = handlers.present(await handlers.row(name))
        return task


def _require_succeeded(task: OptimizationTask) -> None:
    if task.status.state != TASK_STATE_SUCCEEDED:
        state = word(TaskState, task.status.state)
        raise failed_precondition(
            "TASK_NOT_SUCCEEDED", f"'{task.name}' is {state}; only what SUCCEEDED can be saved.", task.name
        )


def _require_model(task: OptimizationTask, model: str) -> None:
    saved = task.result.model_version
    if model and not saved.startswith(f"{model}/versions/"):
        raise failed_precondition(
            "ALREADY_SAVED",
            f"'{task.name}' is saved as '{saved}', and a task is saved once. Optimize again to have it elsewhere too: "
            "the work itself is in the action cache.",
            task.name,
        )


def _architectures(row: TaskRow) -> dict[str, str]:
    """Return the digests of the architectures that build the source's network, by name."""
    work = OptimizationWork()
    unpack(TaskAssignment.FromString(row.assignment).work, work)
    return {each.name: each.digest for each in work.conversion.architectures.values()}


def laid_out(source: Sequence[File], package: Sequence[File]) -> list[File]:
    """Return every file by its path below the place of a saved model; the manifest comes last in its folder.

    The source's files keep their paths, unless one of them is in the package's folder: then all of them go under
    `source/`.

    Args:
        source: The files of the version that was optimized.
        package: The files of the recommended form, `infer.py` and the manifest among them.
    """
    collides = any(file.path.partition("/")[0] == MODEL_FOLDER for file in source)
    before = f"{SOURCE_FOLDER}/" if collides else ""
    files = [File(path=f"{before}{file.path}", digest=file.digest) for file in source]
    ordered = sorted(package, key=lambda file: (file.path == MANIFEST, file.path))
    return files + [File(path=f"{MODEL_FOLDER}/{file.path}", digest=file.digest) for file in ordered]
