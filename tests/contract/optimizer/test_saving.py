"""Results become versions when somebody says so, and each lies in a place of its own, over real servers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from lathe.optimizer.v1 import optimization_service_pb2 as pb
from lathe.registry.v1.model_service_pb2 import (
    MODEL_FORMAT_ONNX,
    DeleteModelVersionRequest,
    GetModelVersionRequest,
    ModelVersion,
)
from lathe.type.v1.measurement_pb2 import VERDICT_PASS
from lathe.type.v1.operation_pb2 import (
    OPERATION_STATE_CANCELLED,
    OPERATION_STATE_FAILED,
    OPERATION_STATE_RUNNING,
    OPERATION_STATE_SUCCEEDED,
)

from engines.package.provenance import FILE_NAME
from services.database.pool import Database
from services.operations import runner
from services.optimizer.places import Places
from services.optimizer.saver import Saver
from services.optimizer.work import OptimizationWorkKind
from services.platform.errors import failed_precondition
from services.storage.bucket import Bucket
from services.storage.folders import Folders
from tests.contract.connections import none_is_held
from tests.contract.optimizer.desk import Job, cancel, create, refused, save, save_ended
from tests.contract.workplace import DEVICE, Workplace, graph

CALLS = 16


class Shelf:
    """The bucket, as somebody sees it who looks into it."""

    def __init__(self, workplace: Workplace) -> None:
        self._bucket = Bucket.of(workplace.settings)

    async def paths(self, folder: str) -> list[str]:
        found = await self._bucket.run(lambda *_: list(self._bucket.objects(f"{folder}/")))
        return [str(item.object_name).removeprefix(f"{folder}/") for item in found]

    async def read(self, key: str) -> bytes:
        return await self._bucket.run(lambda client, _: client.get_object(self._bucket.name, key).data)


@pytest.fixture(scope="module")
def shelf(workplace: Workplace) -> Shelf:
    return Shelf(workplace)


@pytest.fixture
async def _worker(workplace: Workplace) -> AsyncIterator[None]:
    async with workplace.worker(OptimizationWorkKind(DEVICE), Job().run):
        yield


async def done(workplace: Workplace, version: ModelVersion, **spec: object) -> pb.OptimizationTask:
    return await workplace.optimized(await create(workplace, version, **spec))


def place(version: ModelVersion, location: str) -> str:
    _, model, _, number = version.name.split("/")
    return f"{location}/m-{model}/mv-{number}"


@pytest.mark.usefixtures("_worker")
async def test_a_saved_model_is_a_version_and_lies_beside_its_source(workplace: Workplace, shelf: Shelf) -> None:
    source = await workplace.source()
    task = await done(workplace, source)
    # More calls than the service has connections to its database: those that wait must not keep them from the first.
    first, *others = await asyncio.gather(*(save(workplace, task) for _ in range(CALLS)))
    assert all(other.result == first.result for other in others)
    folder = place(source, f"optimized/{task.uid}")
    assert first.result.saved_location == folder
    version = await workplace.registry.models.GetModelVersion(GetModelVersionRequest(name=first.result.model_version))
    assert version.name == f"{source.name.partition('/versions/')[0]}/versions/2"
    assert list(version.lineage.sources) == [source.name]
    assert (version.lineage.task, version.parity["main"].verdict) == (task.name, VERDICT_PASS)
    optimized = {file.path for file in task.result.files}
    assert {"infer.py", "main/model.onnx", "manifest.json"} <= optimized
    made = {file.path for file in version.files}
    assert made == {*optimized, FILE_NAME}
    assert set(await shelf.paths(folder)) == {"model.onnx", *(f"model/{path}" for path in made)}
    assert await shelf.read(f"{folder}/model.onnx") == graph("Identity")
    assert (await save(workplace, task)).result == first.result
    kept = await workplace.optimizations.GetOptimizationTask(pb.GetOptimizationTaskRequest(name=task.name))
    assert kept.result == first.result
    other = await workplace.registry.model()
    error = await workplace.refused(save(workplace, task, other))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ALREADY_SAVED")


@pytest.mark.usefixtures("_worker")
async def test_no_connection_is_held_while_files_are_copied(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await done(workplace, await workplace.source())
    database = await Database.connect(workplace.settings.database_url, "optimizer")
    copied: list[str] = []
    right = Folders.copy

    async def copy(self: Folders, *args: Any, **kwargs: Any) -> None:
        await none_is_held(database, "optimizer")
        copied.append(args[0])
        await right(self, *args, **kwargs)

    monkeypatch.setattr(Folders, "copy", copy)
    try:
        await asyncio.gather(*(save(workplace, task) for _ in range(CALLS)))
    finally:
        await database.close()
    assert len(copied) == 2  # one copies, the files and then the provenance; those that wait hold nothing either


@pytest.mark.usefixtures("_worker")
async def test_a_source_with_a_folder_of_that_name_lies_in_one_of_its_own(workplace: Workplace, shelf: Shelf) -> None:
    files = [await workplace.registry.file("model/net.onnx", graph("Abs"))]
    source = await workplace.registry.version(
        await workplace.registry.model(), ModelVersion(format=MODEL_FORMAT_ONNX, files=files)
    )
    task = await done(workplace, source, output_location="vision/fast")
    await save(workplace, task)
    paths = await shelf.paths(place(source, "vision/fast"))
    assert "source/model/net.onnx" in paths
    assert "model/manifest.json" in paths


@pytest.mark.usefixtures("_worker")
async def test_a_model_is_saved_under_another_name(workplace: Workplace) -> None:
    other = await workplace.registry.model()
    task = await done(workplace, await workplace.source("Sqrt"))
    error = await workplace.refused(save(workplace, task, "models/absent"))
    assert error.code is grpc.StatusCode.NOT_FOUND
    assert (await save(workplace, task, other)).result.model_version == f"{other}/versions/1"


@pytest.mark.usefixtures("_worker")
async def test_a_version_is_optimized_and_saved_as_often_as_one_likes(workplace: Workplace) -> None:
    source = await workplace.source("Neg")
    saved = await save(workplace, await done(workplace, source, seed=11))
    other = await save(workplace, await done(workplace, source, objective="SIZE", seed=11))
    equal = await create(workplace, source, seed=11)
    assert (equal.origin.cache_hit, equal.result.model_version) == (saved.name, "")
    again = await save(workplace, equal)
    assert len({each.result.saved_location for each in (saved, other, again)}) == 3
    assert len({each.result.model_version for each in (saved, other, again)}) == 3
    # What was deleted since is saved anew.
    await workplace.registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=again.result.model_version))
    anew = await save(workplace, again)
    assert anew.result.model_version == f"{again.result.model_version[:-1]}5"
    assert anew.result.saved_location == again.result.saved_location
    assert (await save(workplace, again)).result == anew.result


@pytest.mark.usefixtures("_worker")
async def test_what_is_saved_is_never_laid_over_while_its_version_exists(workplace: Workplace) -> None:
    source = await workplace.source("Neg")
    first = await done(workplace, source, seed=12, output_location="kept")
    second = await done(workplace, source, objective="SIZE", seed=12, output_location="kept")
    saved = await save(workplace, first)
    error = await workplace.refused(save(workplace, second))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "OUTPUT_LOCATION_TAKEN")
    assert first.name in error.message
    for location in ("kept", f"{place(source, 'kept')}/model"):
        error = await refused(workplace, source, output_location=location, seed=1)
        assert error.reason == "OUTPUT_LOCATION_TAKEN"
    # The result is a package, whose own files lie there.
    error = await refused(workplace, saved.result.model_version, output_location=place(source, "kept"))
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields[0][0] == "task.spec.output_location"
    await workplace.registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=saved.result.model_version))
    assert (await save(workplace, second)).result.saved_location == place(source, "kept")
    assert (await workplace.refused(save(workplace, first))).reason == "OUTPUT_LOCATION_TAKEN"


@pytest.mark.usefixtures("_worker")
async def test_an_interrupted_save_goes_on_by_itself(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is killed after the registry has the version, before the task says so."""
    task = await done(workplace, await workplace.source("Cos"))
    other = await workplace.registry.model()
    interrupted = asyncio.Event()

    async def killed(*_: object) -> None:
        interrupted.set()
        raise OSError("killed")

    monkeypatch.setattr(runner, "_RETRY_AFTER", timedelta(seconds=0.1))
    rpc = workplace.optimizations
    with monkeypatch.context() as patch:
        patch.setattr(Places, "registered", killed)
        begun = await rpc.SaveModel(pb.SaveModelRequest(name=task.name))
        await interrupted.wait()
        error = await workplace.refused(save(workplace, task, other))
        assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ALREADY_SAVED")
        assert "is being saved" in error.message
    version = f"{task.spec.model_version.partition('/versions/')[0]}/versions/2"
    ended = await save_ended(workplace, begun)
    assert (ended.state, ended.model_version) == (OPERATION_STATE_SUCCEEDED, version)
    error = await workplace.refused(save(workplace, task, other))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ALREADY_SAVED")
    assert f"is saved as '{version}'" in error.message
    saved = await save(workplace, task)
    assert saved.result.model_version == version
    assert saved.result.saved_location.startswith(f"optimized/{task.uid}/")


@pytest.mark.usefixtures("_worker")
async def test_a_save_can_be_watched_cancelled_and_deleted(
    workplace: Workplace, shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_BEAT_SECONDS", 0.02)
    source = await workplace.source("Sin")
    task, rival = [
        await done(workplace, source, objective=objective, seed=21, output_location="cancelled")
        for objective in ("LATENCY", "SIZE")
    ]
    begun, opened = asyncio.Event(), asyncio.Event()

    async def copy(_: Folders, _folder: str, files: Any, *, on_copied: Any, **__: Any) -> None:
        on_copied(next(iter(files)))
        begun.set()
        await opened.wait()

    rpc = workplace.optimizations
    with monkeypatch.context() as patch:
        patch.setattr(Folders, "copy", copy)
        running = await rpc.SaveModel(pb.SaveModelRequest(name=task.name))
        assert (running.state, running.model) == (
            OPERATION_STATE_RUNNING,
            source.name.partition("/versions/")[0],
        )
        await begun.wait()
        seen = []
        async for each in rpc.WatchModelSave(pb.WatchModelSaveRequest(name=running.name)):
            seen.append(each)
            if 0 < each.progress < 1:
                await rpc.CancelModelSave(pb.CancelModelSaveRequest(name=running.name))
        assert seen[-1].state == OPERATION_STATE_CANCELLED
        # Cancelling the first one again takes nothing from the second one, whose place is free once it is deleted.
        second = await rpc.SaveModel(pb.SaveModelRequest(name=task.name))
        await rpc.CancelModelSave(pb.CancelModelSaveRequest(name=running.name))
        taken = await workplace.refused(rpc.SaveModel(pb.SaveModelRequest(name=rival.name)))
        assert taken.reason == "OUTPUT_LOCATION_TAKEN"
        await rpc.DeleteModelSave(pb.DeleteModelSaveRequest(name=second.name))
    # Nothing was registered, and the place is another's to take.
    saved = await save(workplace, rival)
    assert saved.result.model_version.endswith("/versions/2")
    assert saved.result.saved_location == place(source, "cancelled")
    assert "model/manifest.json" in await shelf.paths(saved.result.saved_location)
    listed = await rpc.ListModelSaves(pb.ListModelSavesRequest(parent=task.name))
    assert [each.name for each in listed.model_saves] == [running.name]
    nobody = pb.ListModelSavesRequest(parent="optimizationTasks/nobody")
    assert (await workplace.refused(rpc.ListModelSaves(nobody))).code is grpc.StatusCode.NOT_FOUND
    for _ in range(2):
        await rpc.DeleteModelSave(pb.DeleteModelSaveRequest(name=running.name, allow_missing=True))
    gone = await workplace.refused(rpc.GetModelSave(pb.GetModelSaveRequest(name=running.name)))
    assert gone.code is grpc.StatusCode.NOT_FOUND


@pytest.mark.usefixtures("_worker")
async def test_a_save_that_fails_tells_why_and_may_be_repeated(
    workplace: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = await done(workplace, await workplace.source("Sinh"))

    async def refuse(*_: object) -> str:
        raise failed_precondition("SOURCE_GONE", "It is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(Saver, "_register", refuse)
        failed = await save_ended(
            workplace, await workplace.optimizations.SaveModel(pb.SaveModelRequest(name=task.name))
        )
    assert (failed.state, failed.failure.evidence) == (OPERATION_STATE_FAILED, "SOURCE_GONE")
    assert failed.failure.message == "It is gone."
    assert (await save(workplace, task)).result.model_version


async def exists(_: str) -> bool:
    return True


async def test_a_place_whose_task_never_came_to_be_is_free_after_a_while(workplace: Workplace) -> None:
    source = await workplace.source("Log")
    database = await Database.connect(workplace.settings.database_url, "optimizer")
    try:
        places = Places(database, exists)
        await places.keep(f"optimizationTasks/{uuid.uuid4()}", place(source, "lost"))
        assert (await refused(workplace, source, output_location="lost")).reason == "OUTPUT_LOCATION_TAKEN"
        await database.execute("UPDATE output_locations SET take_time = now() - interval '1 hour'")
        await cancel(workplace, await create(workplace, source, output_location="lost"))
    finally:
        await database.close()


async def test_two_tasks_in_flight_have_two_places(workplace: Workplace) -> None:
    source = await workplace.source("Exp")
    first = await create(workplace, source, output_location="shared", seed=2)
    error = await refused(workplace, source, output_location="shared", seed=3)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "OUTPUT_LOCATION_TAKEN")
    assert first.name in error.message
    apart = await create(workplace, source, output_location="apart", seed=3)
    await cancel(workplace, first, apart)
    async with asyncio.timeout(60):
        while True:  # the place is let go when the task has ended
            try:
                again = await create(workplace, source, output_location="shared", seed=4)
                break
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
    await cancel(workplace, again)


async def test_only_what_succeeded_is_saved(workplace: Workplace) -> None:
    task = await create(workplace, await workplace.source("Log"), seed=5)
    await cancel(workplace, task)
    error = await workplace.refused(save(workplace, task))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "TASK_NOT_SUCCEEDED")
    assert "is CANCELLED" in error.message
    task.name = "optimizationTasks/absent"
    assert (await workplace.refused(save(workplace, task))).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.usefixtures("_worker")
async def test_a_source_that_is_gone_cannot_lie_beside_the_result(workplace: Workplace) -> None:
    source = await workplace.source("Tanh")
    task = await done(workplace, source)
    await workplace.delete(source.name)
    error = await workplace.refused(save(workplace, task))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SOURCE_GONE")
