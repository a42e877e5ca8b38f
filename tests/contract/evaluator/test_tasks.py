"""What an evaluation may ask for, and what becomes of one, over real servers."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from lathe.evaluator.v1 import evaluation_service_pb2 as pb
from lathe.registry.v1.artifact_service_pb2 import GetArtifactRequest
from lathe.registry.v1.dataset_service_pb2 import Dataset, DeleteDatasetRequest
from lathe.registry.v1.model_service_pb2 import DeleteModelVersionRequest, ModelVersion
from lathe.type.v1 import failure_pb2
from lathe.type.v1.digest_pb2 import Digest
from lathe.type.v1.task_pb2 import TASK_STATE_FAILED, TASK_STATE_SUCCEEDED

from services.evaluator.work import EvaluationWorkKind
from services.platform.errors import LatheError
from services.platform.words import from_values
from services.siblings.packages import parse_manifest
from tests.contract.evaluator.jobs import evaluate
from tests.contract.registry.conftest import digest_of
from tests.contract.registry.dataset_desk import scenes
from tests.contract.workplace import DEVICE, Workplace, package_manifest


async def create(workplace: Workplace, version: ModelVersion, **spec: Any) -> pb.EvaluationTask:
    wanted = from_values({"model_version": version.name, **spec}, pb.EvaluationSpec())
    request = pb.CreateEvaluationTaskRequest(task=pb.EvaluationTask(spec=wanted))
    task: pb.EvaluationTask = await workplace.evaluations.CreateEvaluationTask(request)
    return task


async def refused(workplace: Workplace, version: ModelVersion, **spec: Any) -> LatheError:
    return await workplace.refused(create(workplace, version, **spec))


async def test_an_evaluation_fills_in_what_its_worker_found(workplace: Workplace, digits: Dataset) -> None:
    version, dataset = await workplace.package(), digits
    async with workplace.worker(EvaluationWorkKind(DEVICE), evaluate):
        task = await workplace.evaluated(await create(workplace, version, dataset=dataset.name, batch_size=4))
        assert task.status.state == TASK_STATE_SUCCEEDED, task.status
        again = await create(workplace, version, dataset=dataset.name, batch_size=4, device=DEVICE, loops=1)
        other = await workplace.evaluated(await create(workplace, version, dataset=dataset.name, samples=5, seed=1))
    top1 = next(metric for metric in task.result.metrics if (metric.name, metric.slice) == ("top1", ""))
    assert top1.value == pytest.approx(9 / 12)
    assert (task.result.samples, other.result.samples) == (12, 5)
    assert task.device == DEVICE
    assert task.display_name.startswith("Model ")
    for report in (task.result.json_report, task.result.html_report, task.result.predictions):
        assert (
            await workplace.registry.artifacts.GetArtifact(GetArtifactRequest(name=f"artifacts/{report.sha256}"))
        ).digest == report
    assert again.origin.cache_hit == task.name
    assert again.result == task.result
    for name in (version.name, dataset.name):
        found = await workplace.evaluations.ListEvaluationTasks(pb.ListEvaluationTasksRequest(filter=f"uses:{name}"))
        assert {each.name for each in found.tasks} >= {task.name, again.name, other.name}


async def test_uploaded_images_are_tied_to_no_dataset(workplace: Workplace, package: ModelVersion) -> None:
    uploaded = await workplace.registry.store(scenes(first=70))
    task = await create(workplace, package, images=_json(uploaded))
    assert not task.spec.dataset
    error = await refused(workplace, package, images=_json(digest_of(b"never stored")))
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BLOB_NOT_FOUND")


async def test_only_packages_run(workplace: Workplace, digits: Dataset, package: ModelVersion) -> None:
    error = await refused(workplace, await workplace.source(), dataset=digits.name)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_A_PACKAGE")
    assert "Convert it first" in error.message
    missing = ModelVersion(name="models/absent/versions/1")
    assert (await refused(workplace, missing, dataset=digits.name)).code is grpc.StatusCode.NOT_FOUND
    assert (await refused(workplace, package, dataset="datasets/absent")).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"precision": "INT8"}, "PRECISION_NOT_AVAILABLE", "computes in FP32"),
        ({"device": "nvidia-t4"}, "DEVICE_NOT_SERVED", "'cpu-x86-64'"),
    ],
)
async def test_what_the_package_is_not_for(
    workplace: Workplace, digits: Dataset, package: ModelVersion, *, spec: dict[str, Any], reason: str, words: str
) -> None:
    error = await refused(workplace, package, dataset=digits.name, **spec)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, reason)
    assert words in error.message


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"device": "toaster"}, "device", "there is no device 'toaster'"),
        ({"batch_size": 9}, "batch_size", "9 is more than the package takes at once, which is 8"),
        ({"method": "guess"}, "method", "no postprocess method 'guess'"),
        ({"args": {"top": {"si": 1}}}, "args", "no argument 'top'"),
        ({"method": "yolo", "args": {"iou_threshold": {"sf": 1.5}}}, "args", "between 0 and 1"),
        ({"iou_thresholds": [0.5]}, "iou_thresholds", "classification finds no boxes"),
        ({"method": "detection", "iou_thresholds": [1.5]}, "iou_thresholds[0]", "1.5"),
        (
            {"class_tasks": ["digit", "colour"]},
            "class_tasks",
            "colour: not among the taxonomies of the package; they are digit",
        ),
        ({"slices": ["scene"]}, "slices", "scene: not among the attributes of the dataset; it has none"),
        ({"preprocessing": [{"cvtRGB": True}]}, "preprocessing", "holds tensors"),
        ({"memory_limit_bytes": 5}, "memory_limit_bytes", "at least"),
    ],
)
async def test_wrong_fields_are_named(
    workplace: Workplace, digits: Dataset, package: ModelVersion, *, spec: dict[str, Any], field: str, words: str
) -> None:
    error = await refused(workplace, package, dataset=digits.name, **spec)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields[0][0] == f"task.spec.{field}"
    assert words in error.message


async def test_slices_are_attributes_of_the_dataset(
    workplace: Workplace, images: Dataset, package: ModelVersion
) -> None:
    assert (await create(workplace, package, dataset=images.name, slices=["scene"])).name
    error = await refused(workplace, package, dataset=images.name, slices=["scene", "weather"])
    assert "weather: not among the attributes of the dataset; they are scene" in error.message


async def test_a_dataset_has_to_be_ready(workplace: Workplace, package: ModelVersion) -> None:
    mapping = {"entries": [{"task": "animal", "key": "class", "classes": ["cat", "wolf"]}]}
    waiting = await workplace.desk.create(scenes(first=90), mapping=mapping)
    error = await refused(workplace, package, dataset=waiting.name)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DATASET_NOT_READY")
    assert "AWAITING_CONFIRMATION" in error.message


def test_a_damaged_manifest_is_named() -> None:
    version = ModelVersion(name="models/m/versions/1")
    with pytest.raises(LatheError, match="wrong at requirements") as caught:
        parse_manifest(version, package_manifest(requirements={}))
    assert (caught.value.code, caught.value.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "INVALID_PACKAGE")


async def test_what_a_task_reads_cannot_be_deleted_until_it_ends(workplace: Workplace) -> None:
    version, dataset = await workplace.package(), await workplace.digits(count=9)
    task = await create(workplace, version, dataset=dataset.name)
    deletions = (
        lambda: workplace.registry.datasets.DeleteDataset(DeleteDatasetRequest(name=dataset.name)),
        lambda: workplace.registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=version.name)),
    )
    for delete in deletions:
        assert (await workplace.refused(delete())).code is grpc.StatusCode.FAILED_PRECONDITION
    await workplace.evaluations.CancelEvaluationTask(pb.CancelEvaluationTaskRequest(name=task.name))
    for delete in deletions:
        async with asyncio.timeout(30):
            while True:
                try:
                    await delete()
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.05)


async def test_a_failure_of_the_engine_is_told(workplace: Workplace, images: Dataset, package: ModelVersion) -> None:
    async with workplace.worker(EvaluationWorkKind(DEVICE), evaluate):
        task = await workplace.evaluated(await create(workplace, package, dataset=images.name))
    assert task.status.state == TASK_STATE_FAILED
    assert task.status.failure.stage == failure_pb2.TASK_STAGE_EXECUTING
    assert task.status.failure.message


def _json(digest: Digest) -> dict[str, Any]:
    return {"sha256": digest.sha256, "size_bytes": digest.size_bytes}
