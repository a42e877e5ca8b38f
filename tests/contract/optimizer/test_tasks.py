"""What an optimization may ask for, how its source is found, and what its worker is given, over real servers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from lathe.optimizer.v1 import optimization_service_pb2 as pb
from lathe.registry.v1.dataset_service_pb2 import Dataset, DeleteDatasetRequest
from lathe.registry.v1.model_service_pb2 import DeleteModelVersionRequest, ModelVersion
from lathe.type.v1.task_pb2 import TASK_STATE_SUCCEEDED

from engines.runtimes import targets
from services.optimizer.work import OptimizationWorkKind
from tests.contract.optimizer.desk import Job, cancel, create, refused
from tests.contract.workplace import DEVICE, Workplace


@pytest.fixture(scope="module")
async def source(workplace: Workplace) -> ModelVersion:
    return await workplace.source()


async def test_a_source_is_read_by_the_built_in_template_and_nothing_is_registered(
    workplace: Workplace, source: ModelVersion, digits: Dataset
) -> None:
    job = Job()
    asked = {"precision_goal": "INT8", "dataset": digits.name, "tensor_information": "x:float(1*3)"}
    async with workplace.worker(OptimizationWorkKind(DEVICE), job.run):
        task = await workplace.optimized(await create(workplace, source, **asked))
        assert task.status.state == TASK_STATE_SUCCEEDED, task.status
        again = await create(workplace, source, output_location="elsewhere", **asked)
    template, spec = job.request["conversion"]["template"], job.request["spec"]
    assert (template["runtime"], template["precision"]) == ("onnxruntime", "FP32")
    assert {"source/model.onnx", "calibration/index.parquet"} <= job.files.keys()
    assert (spec["objective"], spec["search_budget"], spec["device"]) == ("LATENCY", "600s", DEVICE)
    assert spec["engine_version"]
    assert not {"model_version", "dataset", "output_location"} & spec.keys()

    result = task.result
    assert (result.model_version, result.saved_location) == ("", "")
    stored = {file.path: file.digest for file in result.files}
    assert {"manifest.json", "infer.py", "record.json"} <= stored.keys()
    assert (result.manifest, result.html_report) == (stored["manifest.json"], stored["optimization.html"])
    assert (again.origin.cache_hit, again.result) == (task.name, result)
    found = await workplace.optimizations.ListOptimizationTasks(
        pb.ListOptimizationTasksRequest(filter=f"uses:{digits.name}")
    )
    assert {task.name, again.name} <= {each.name for each in found.tasks}


async def test_a_package_is_read_from_its_source_and_judged(
    workplace: Workplace, source: ModelVersion, digits: Dataset
) -> None:
    converted = await workplace.package(source)
    job = Job()
    asked = {"dataset": digits.name, "max_degradation": 0.5}
    async with workplace.worker(OptimizationWorkKind(DEVICE), job.run):
        task = await workplace.optimized(await create(workplace, converted, **asked))
    assert task.status.state == TASK_STATE_SUCCEEDED, task.status
    assert {"source/model.onnx", "evaluation/index.parquet"} <= job.files.keys()
    assert not any(path.startswith("calibration") for path in job.files)
    assert job.request["conversion"]["template"]["method"] == "classification"


async def test_a_quantized_version_is_not_answered_with_its_source(workplace: Workplace, source: ModelVersion) -> None:
    quantized = await workplace.package(source, made_by="quantizationTasks/made", precision="INT8")
    error = await refused(workplace, quantized)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "QUANTIZED_VERSION")
    assert f"Optimize '{source.name}' with the precision goal INT8" in error.message
    # A conversion computes in the integers that its source carries.
    carried = await workplace.package(source, precision="INT8")
    await cancel(workplace, await create(workplace, carried))


async def test_the_next_search_is_given_the_record_of_the_last(workplace: Workplace) -> None:
    version = await workplace.source("Sign")
    job = Job()
    async with workplace.worker(OptimizationWorkKind(DEVICE), job.run):
        first = await workplace.optimized(await create(workplace, version))
        assert "record.json" not in job.files
        second = await workplace.optimized(await create(workplace, version, objective="SIZE"))
        assert json.loads(job.files["record.json"])["runs"] == 1
        assert second.result.candidates[0].measured_by == first.name
        # The record changes nothing about what is equal work.
        third = await create(workplace, version)
        assert third.origin.cache_hit == first.name
        request = pb.CreateOptimizationTaskRequest(task=pb.OptimizationTask(spec=first.spec), skip_cache=True)
        fourth = await workplace.optimized(await workplace.optimizations.CreateOptimizationTask(request))
    assert (fourth.status.state, job.runs) == (TASK_STATE_SUCCEEDED, 3)
    assert "record.json" not in job.files
    # Two wait with the record of the fourth: that of the first of them comes too late for the other.
    waiting = [await create(workplace, version, seed=seed) for seed in (5, 6)]
    async with workplace.worker(OptimizationWorkKind(DEVICE), job.run):
        done = [await workplace.optimized(task) for task in waiting]
    assert [each.result.candidates[0].measured_by for each in done] == [fourth.name] * 2


async def test_arrays_of_the_user_are_fetched(workplace: Workplace) -> None:
    version = await workplace.source("Abs")
    file = await workplace.registry.file("a.npz", b"arrays")
    digest = {"sha256": file.digest.sha256, "size_bytes": str(file.digest.size_bytes)}
    job = Job()
    async with workplace.worker(OptimizationWorkKind(DEVICE), job.run):
        asked = {"precision_goal": "INT8", "calibration_samples": digest, "test_data": digest}
        task = await workplace.optimized(await create(workplace, version, **asked))
    assert task.status.state == TASK_STATE_SUCCEEDED, task.status
    assert job.files["calibration.bin"] == job.files["samples/test.npz"] == b"arrays"
    absent = {"sha256": "0" * 64, "size_bytes": "3"}
    error = await refused(workplace, version, test_data=absent)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BLOB_NOT_FOUND")


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"device": "toaster"}, "device", "there is no device 'toaster'"),
        ({"precision_goal": "INT4"}, "precision_goal", "goals are FP32, FP16, BF16, INT8"),
        ({"precision_goal": "INT8"}, "precision_goal", "name a dataset, or upload samples"),
        ({"max_degradation": 0.5}, "max_degradation", "it needs a dataset"),
        ({"metric": "top1"}, "metric", "it needs a dataset"),
        ({"preprocessing": [{"cvtRGB": True}]}, "preprocessing", "it needs a dataset"),
        ({"engine_version": "9.9"}, "engine_version", "there is: "),
        ({"memory_limit_bytes": 5}, "memory_limit_bytes", "at least"),
        ({"timeout": "60s"}, "timeout", "its budget of 600 s"),
        ({"output_location": "a/../b"}, "output_location", "'..' part"),
        ({"output_location": "a/"}, "output_location", "has an empty"),
        ({"output_location": "cas/x"}, "output_location", "holds the files of sources"),
        ({"output_location": "triton"}, "output_location", "holds the files of sources"),
        ({"tensor_information": "x:float(1*3)\ny:floot(1*3)"}, "tensor_information", "line 2"),
        ({"tensor_information": "x:float(3*3,1*3)"}, "tensor_information", "column"),
        ({"tensor_information": "x:float(1*3)\ny:float(1*3)"}, "tensor_information", "says 2 inputs"),
        ({"tensor_information": "z:float(1*3)"}, "tensor_information", "says the input 'z'"),
        ({"tensor_information": "input_0:half(1*3)"}, "tensor_information", "'x' is declared as float16"),
        ({"tensor_information": "input_0:float(1*3*3)"}, "tensor_information", "2 axes and not 3"),
        ({"calibration_samples": {"sha256": "0" * 64, "size_bytes": "3"}}, "calibration_samples", "the goal FP32"),
    ],
)
async def test_wrong_fields_are_named(
    workplace: Workplace, source: ModelVersion, spec: dict[str, Any], field: str, words: str
) -> None:
    error = await refused(workplace, source, **spec)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields[0][0] == f"task.spec.{field}"
    assert words in error.message


async def test_a_device_that_this_release_builds_nothing_for_is_refused(
    workplace: Workplace, source: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "graph_runtime", lambda device: "openvino" if device.id == DEVICE else "")
    error = await refused(workplace, source, device="nvidia-t4")
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields[0][0] == "task.spec.device"
    assert "it does for: cpu-x86-64" in error.message


async def test_an_axis_that_nothing_declares_is_refused_before_work(workplace: Workplace) -> None:
    source = await workplace.open_source()
    error = await refused(workplace, source)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields[0][0] == "task.spec.tensor_information"
    assert "axis 1 of 'x' (length)" in error.message
    assert "--tensor-information 'x:float(1*128)'" in error.message
    await cancel(workplace, await create(workplace, source, tensor_information="x:float(1*128)"))


async def test_data_that_does_not_serve(
    workplace: Workplace, source: ModelVersion, digits: Dataset, images: Dataset
) -> None:
    error = await refused(workplace, source, dataset=digits.name, max_degradation=1)
    assert error.fields[0][0] == "task.spec.max_degradation"
    assert "the template has the method raw" in error.message
    error = await refused(workplace, source, dataset=digits.name, preprocessing=[{"cvtRGB": True}])
    assert error.fields[0][0] == "task.spec.preprocessing"
    assert (await refused(workplace, source, dataset="datasets/absent")).code is grpc.StatusCode.NOT_FOUND


async def test_a_package_without_a_source_graph(workplace: Workplace, package: ModelVersion) -> None:
    error = await refused(workplace, package)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_SOURCE_GRAPH")


async def test_what_a_task_reads_cannot_be_deleted(workplace: Workplace) -> None:
    version, dataset = await asyncio.gather(workplace.source(), workplace.digits(count=7))
    task = await create(workplace, version, dataset=dataset.name, precision_goal="INT8")
    for call in (
        workplace.registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=version.name)),
        workplace.registry.datasets.DeleteDataset(DeleteDatasetRequest(name=dataset.name)),
    ):
        assert (await workplace.refused(call)).code is grpc.StatusCode.FAILED_PRECONDITION
    await cancel(workplace, task)
