"""Saves: the form that a search recommends is copied to the bucket beside its source, and becomes a version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
from google.protobuf.message import Message
from lathe.internal.v1.event_pb2 import TaskAssignment
from lathe.internal.v1.optimization_pb2 import OptimizationOutcome, OptimizationWork
from lathe.optimizer.v1.optimization_service_pb2 import (
    ListModelSavesResponse,
    ModelSave,
    OptimizationTask,
    SaveModelRequest,
)
from lathe.registry.v1.model_service_pb2 import GetModelRequest, GetModelVersionRequest, ModelVersion
from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub
from lathe.type.v1.digest_pb2 import File
from lathe.type.v1.failure_pb2 import TASK_STAGE_REGISTERING, TASK_STAGE_UPLOADING_OUTPUTS
from lathe.type.v1.operation_pb2 import (
    OPERATION_STATE_RUNNING,
    OPERATION_STATE_SUCCEEDED,
    OperationState,
)

from services.database.leases import Leases
from services.operations.backlog import Backlog
from services.operations.operations import Operations
from services.operations.runner import LostError, Standing
from services.optimizer.layout import laid_out, provenance_of
from services.optimizer.places import Places
from services.optimizer.rules import place_of, require_model, require_succeeded
from services.platform.errors import LatheError, failed_precondition, from_rpc_error, is_transient
from services.process.composition import Platform
from services.resources.filters.fields import word_field
from services.resources.kind import ResourceKind
from services.resources.listing import ListQuery
from services.resources.scope import OfParent
from services.siblings.fitting import description_of
from services.siblings.packages import Packages, output_model, package_version, require_target
from services.storage.folders import Folders
from services.tasks.api.service import TaskEngine
from services.tasks.kind import unpack
from services.tasks.state.rows import Change, TaskRow

# Share of the whole; the rest is the registration.
_COPIED = 0.9
KIND = ResourceKind(
    ModelSave,
    table="model_saves",
    collection="saves",
    noun="save",
    columns={"state": lambda save: save.state},
    fields={"state": word_field(OperationState)},
    scope=OfParent("tasks", "task", found="uid = split_part($1, '/', 2)::uuid", readers="ARRAY[project]"),
)


class Saver:
    """Saves the results of tasks. Every step can be repeated: the next attempt completes an interrupted one."""

    noun = "model save"
    at_once = 4

    def __init__(self, platform: Platform, engine: TaskEngine) -> None:
        registry, settings, database = platform.channel("registry"), platform.settings, platform.database
        self._models = ModelServiceStub(registry)
        self._packages = Packages(registry, platform.cas)
        self._cas = platform.cas
        self._places = Places(database, self._packages.exists)
        self._folders = Folders(settings)
        self._engine = engine
        self._leases = Leases(database)
        backlog = Backlog(database, "model_save_work", "save", timedelta(seconds=settings.ack_wait_seconds))
        self.operations = Operations(database, KIND, backlog, self, max_attempts=settings.max_attempts)

    async def save(self, request: SaveModelRequest) -> ModelSave:
        """Begin to save the form that a task recommends, or return the save that does it or has done it.

        Raises:
            LatheError: NOT_FOUND for the task or the model; FAILED_PRECONDITION if the task has not SUCCEEDED
                (TASK_NOT_SUCCEEDED), is saved under another model (ALREADY_SAVED), its source is gone (SOURCE_GONE),
                or another task has its place (OUTPUT_LOCATION_TAKEN).
        """
        await self._engine.ledger.store.to_change(request.name)
        # One call begins at a time, on whichever replica; a call that waited finds what the first one began.
        async with self._leases.hold(f"saving {request.name}"):
            row = await self._engine.handlers.row(request.name)
            task: OptimizationTask = self._engine.handlers.present(row)
            require_succeeded(task)
            if running := await self._newest(task.name, "RUNNING"):
                require_model(task.name, running.model, "is being saved as a version", request.model)
                return running
            saved = task.result.model_version
            if saved and await self._packages.exists(saved):
                return await self._saved_before(request, task)
            if await self._finish_earlier(task):
                await self._write(row, task.result)
                return await self._saved_before(request, task)
            task.spec.output_model = request.model or task.spec.output_model
            await self._look_up(task)
            await self._places.keep(task.name, place_of(task.name, task.spec))
            return await self._create(request, task, ModelSave(model=output_model(task.spec)))

    async def cancel(self, name: str) -> ModelSave:
        """End a save, and let others have its place, as `Operations.cancel`."""
        cancelled = await self.operations.cancel(name)
        await self._free(_task_of(name))
        return cancelled

    async def delete(self, name: str, etag: str) -> None:
        """Delete a save, and let others have its place if it was going on. Raises as `Operations.delete`."""
        running = (await self.operations.get(name)).state == OPERATION_STATE_RUNNING
        await self.operations.delete(name, etag)
        if running:
            await self._free(_task_of(name))

    async def do(self, operation: ModelSave, standing: Standing) -> ModelSave:
        """Lay the form out, register it, and fill that into the task."""
        row = await self._engine.handlers.row(_task_of(operation.name))
        task: OptimizationTask = self._engine.handlers.present(row)
        if not await self._finish_earlier(task):
            task.spec.output_model = operation.model
            source = await self._look_up(task)
            async with self._place(task) as place:
                await self._lay_out(task, source, place, standing)
                if (await self.operations.get(operation.name)).state != OPERATION_STATE_RUNNING:
                    raise LostError
                task.result.model_version = await self._register(task, row, source)
            await self._add_provenance(place, task.result.model_version)
            task.result.saved_location = place
        await self._write(row, task.result)
        return ModelSave(model_version=task.result.model_version, saved_location=task.result.saved_location)

    async def _saved_before(self, request: SaveModelRequest, task: OptimizationTask) -> ModelSave:
        """Return the save of a version that is registered."""
        result = task.result
        model = result.model_version.partition("/versions/")[0]
        require_model(task.name, model, f"is saved as '{result.model_version}', a version", request.model)
        newest = await self._newest(task.name, "SUCCEEDED")
        if newest is not None and newest.model_version == result.model_version:
            return newest
        done = ModelSave(
            model=model,
            model_version=result.model_version,
            saved_location=result.saved_location,
            state=OPERATION_STATE_SUCCEEDED,
            progress=1.0,
        )
        return await self._create(request, task, done)

    async def _create(self, request: SaveModelRequest, task: OptimizationTask, save: ModelSave) -> ModelSave:
        save.display_name = task.display_name
        save.labels.update(task.labels)
        return await self.operations.create(request, save, parent=task.name)

    async def _free(self, task: str) -> None:
        """Give up the place of a task, unless a newer save has it or a version was registered there."""
        if await self._newest(task, "RUNNING") is None:
            await self._places.give_up(task)

    async def _newest(self, task: str, state: str) -> ModelSave | None:
        query = ListQuery(parent=task, filter=f"state = {state}", page_size=1)
        saves = ListModelSavesResponse().model_saves
        await self.operations.page(query, saves)
        return saves[0] if saves else None

    async def _finish_earlier(self, task: OptimizationTask) -> bool:
        """Fill in what an earlier, interrupted attempt registered; False if it registered nothing."""
        place = await self._places.kept(task.name)
        version = await self._packages.made_by(task) if place else ""
        if version:
            await self._places.registered(task.name, version)
            await self._add_provenance(place, version)
            task.result.model_version, task.result.saved_location = version, place
        return bool(version)

    async def _look_up(self, task: OptimizationTask) -> ModelVersion:
        model = await self._models.GetModel(GetModelRequest(name=output_model(task.spec)))
        require_target(model, task.project)
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

    async def _lay_out(self, task: OptimizationTask, source: ModelVersion, place: str, standing: Standing) -> None:
        """Copy everything to its place. It is registered afterwards, so that a version never misses its files."""
        files = laid_out(source.files, task.result.files)
        total = sum(file.digest.size_bytes for file in files)
        standing.at(TASK_STAGE_UPLOADING_OUTPUTS, 0.0)

        def copied(file: File) -> None:
            standing.progress += _COPIED * file.digest.size_bytes / max(total, 1)

        await self._folders.sweep(place, {file.path for file in files})
        await self._folders.copy(place, files, missing_only=False, on_copied=copied)
        standing.at(TASK_STAGE_REGISTERING, _COPIED)

    async def _register(self, task: OptimizationTask, row: TaskRow, source: ModelVersion) -> str:
        manifest = await self._cas.read(task.result.manifest)
        work = OptimizationWork()
        unpack(TaskAssignment.FromString(row.assignment).work, work)
        architectures = {each.name: each.digest for each in work.conversion.architectures.values()}
        version = package_version(task, task.result.files, architectures, source, manifest)
        # A task that shares another's outcome has none of its own.
        outcome = OptimizationOutcome.FromString(row.outcome or b"")
        name = await self._packages.register(task, work, version, description_of(outcome))
        await self._places.registered(task.name, name)
        return name

    async def _add_provenance(self, place: str, version: str) -> None:
        """Copy the provenance beside the package: it is there only since the version is registered."""
        found = await self._models.GetModelVersion(GetModelVersionRequest(name=version))
        await self._folders.copy(place, provenance_of(found.files), missing_only=True)

    async def _write(self, row: TaskRow, result: Message) -> None:
        """Store the result with what saving adds to it, despite concurrent changes of the task."""
        ledger = self._engine.ledger
        while True:
            stored: Any = ledger.codec.message(row)
            live = ledger.codec.live(ledger.codec.snapshot(row), stored.origin, result)
            if await ledger.commit([Change(row, row._replace(live=live))]):
                return
            row = await self._engine.handlers.row(stored.name)


def _task_of(save: str) -> str:
    return save.partition("/saves/")[0]
