"""What a quantization may ask for, how its source is found, and what becomes of one, over real servers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import grpc
import pytest
from lathe.quantizer.v1 import quantization_service_pb2 as pb
from lathe.registry.v1.architecture_service_pb2 import CreateArchitectureRequest
from lathe.registry.v1.dataset_service_pb2 import Dataset, DeleteDatasetRequest
from lathe.registry.v1.device_service_pb2 import GetDeviceRequest
from lathe.registry.v1.model_service_pb2 import DeleteModelVersionRequest, GetModelVersionRequest, ModelVersion
from lathe.type.v1.measurement_pb2 import VERDICT_PASS
from lathe.type.v1.precision_pb2 import PRECISION_INT8
from lathe.type.v1.task_pb2 import ATTEMPT_OUTCOME_HANDED_ON, ATTEMPT_OUTCOME_SUCCEEDED, TASK_STATE_SUCCEEDED

from engines.package.provenance import FILE_NAME, Content, Signed, read
from engines.quantization.request import QuantizationRequest
from engines.sandbox import Progress
from services.platform.errors import LatheError
from services.platform.words import from_values
from services.quantizer.work import QuantizationWorkKind
from services.siblings.holds import Holds
from services.storage import S3ContentStore
from services.tasks.worker.runner import Slot
from tests.contract.registry.conftest import new_architecture
from tests.contract.workplace import DEVICE, Workplace, graph, package_manifest, package_template

WEIGHTS = {"scheme": "WEIGHT_ONLY"}


class Job:
    """What a worker does: it notes what it was given, and writes a package of one graph in INT8."""

    def __init__(self) -> None:
        self.request: dict[str, Any] = {}
        self.files: set[str] = set()

    async def run(
        self,
        request: dict[str, Any],
        slot: Slot,
        on_progress: Callable[[Progress], None],
        on_log: Callable[[str], None],
    ) -> dict[str, Any]:
        self.request = request
        paths = await asyncio.to_thread(lambda: [path for path in slot.workdir.rglob("*") if path.is_file()])
        self.files = {path.relative_to(slot.workdir).as_posix() for path in paths}
        texts = {
            "manifest.json": package_manifest(precision="INT8"),
            "main/model.onnx": graph("Identity"),
            "template.json": json.dumps(request["conversion"]["template"], sort_keys=True).encode(),
            "quantization.html": b"<!doctype html>",
        }
        for path, data in texts.items():
            target = slot.workdir / "package" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        result = {"source_size_bytes": "40", "size_bytes": "10", "warnings": ["a clipped set"]}
        return {"files": [{"path": path} for path in texts], "result": result}


async def create(workplace: Workplace, version: ModelVersion | str, **spec: Any) -> pb.QuantizationTask:
    name = version if isinstance(version, str) else version.name
    wanted = from_values({"model_version": name, **spec}, pb.QuantizationSpec())
    request = pb.CreateQuantizationTaskRequest(task=pb.QuantizationTask(spec=wanted))
    task: pb.QuantizationTask = await workplace.quantizations.CreateQuantizationTask(request)
    return task


async def refused(workplace: Workplace, version: ModelVersion, **spec: Any) -> LatheError:
    return await workplace.refused(create(workplace, version, **spec))


@pytest.fixture(scope="session")
async def source(workplace: Workplace) -> ModelVersion:
    return await workplace.source()


@pytest.fixture(scope="session")
async def converted(workplace: Workplace, source: ModelVersion) -> ModelVersion:
    """A package that a conversion made of the source."""
    return await workplace.package(source)


async def get(workplace: Workplace, name: str) -> ModelVersion:
    version: ModelVersion = await workplace.registry.models.GetModelVersion(GetModelVersionRequest(name=name))
    return version


async def test_a_package_is_read_from_its_source_and_becomes_a_version(
    workplace: Workplace, source: ModelVersion, converted: ModelVersion, digits: Dataset
) -> None:
    job = Job()
    data = {"dataset": digits.name, "samples": 5, "batch_size": 2}
    asked = {"calibration_data": data, "accuracy": {"dataset": digits.name, "max_degradation": 0.5}}
    async with workplace.worker(QuantizationWorkKind(DEVICE), job.run):
        task = await workplace.quantized(await create(workplace, converted, runtime="openvino", **asked))
        assert task.status.state == TASK_STATE_SUCCEEDED, task.status
        again = await create(workplace, converted, runtime="openvino", **asked)
    assert {"source/model.onnx", "calibration/index.parquet", "evaluation/index.parquet"} <= job.files
    template, spec = job.request["conversion"]["template"], job.request["spec"]
    assert (template["runtime"], template["precision"]) == ("openvino", "FP32")
    assert spec["calibration_data"] == {"samples": 5, "batch_size": 2}
    assert (spec["precision"], spec["scheme"]) == ("INT8", "STATIC")
    assert QuantizationRequest.parse(job.request).spec.method_is_open
    assert not {"model_version", "dataset"} & {*spec, *spec["accuracy"]}

    version = await get(workplace, task.result.model_version)
    assert list(version.lineage.sources) == [converted.name, source.name]
    assert version.lineage.task == task.name
    assert (version.package.precision, version.package.directly_uploaded) == (PRECISION_INT8, False)
    assert version.parity["main"].verdict == VERDICT_PASS
    stored = {file.path: file.digest for file in version.files}
    assert (task.result.manifest, task.result.html_report) == (stored["manifest.json"], stored["quantization.html"])
    assert list(task.result.warnings) == ["a clipped set"]

    stated = read(await S3ContentStore(workplace.settings).read(stored.pop(FILE_NAME)))
    assert stated.files == {path: Content(each.sha256, each.size_bytes) for path, each in stored.items()}
    definition = stated.predicate["buildDefinition"]
    assert definition["buildType"] == "lathe:lathe.quantizer.v1.QuantizationTask"
    assert definition["externalParameters"]["spec"]["calibration_data"]["dataset"] == digits.name
    inputs = {each["name"]: each["digest"]["sha256"] for each in definition["resolvedDependencies"]}
    assert inputs["source/model.onnx"] == source.files[0].digest.sha256
    assert {"calibration.index", "calibration.files", "evaluation.index", "evaluation.files"} <= inputs.keys()
    assert definition["internalParameters"]["work"]["conversion"]["template"]["runtime"] == "openvino"
    assert definition["internalParameters"]["environment"]
    assert stated.predicate["runDetails"]["metadata"]["invocationId"] == task.name
    assert stated.predicate["lathe_verification"]["main"]["verdict"] == "VERDICT_PASS"
    assert stated.signed([]) is Signed.UNSIGNED
    assert (again.origin.cache_hit, again.result) == (task.name, task.result)
    found = await workplace.quantizations.ListQuantizationTasks(
        pb.ListQuantizationTasksRequest(filter=f"uses:{digits.name}")
    )
    assert {task.name, again.name} <= {each.name for each in found.tasks}


async def test_what_another_machine_made_is_made_again_on_the_device(workplace: Workplace) -> None:
    elsewhere, device, taken, seen = Job(), Job(), asyncio.Event(), asyncio.Event()

    async def waits(*given: Any) -> dict[str, Any]:
        taken.set()
        await seen.wait()
        return await elsewhere.run(*given)

    kind = QuantizationWorkKind(DEVICE)
    async with workplace.worker(kind, waits):
        task = await create(workplace, await workplace.source("Neg"), device=DEVICE, runtime="onnxruntime", **WEIGHTS)
        await taken.wait()
        async with workplace.worker(kind, device.run, here=True):
            async with asyncio.timeout(60):
                while not await on_device(workplace):
                    await asyncio.sleep(0.1)
            seen.set()
            done = await workplace.quantized(task)
    outcomes = [attempt.outcome for attempt in done.attempts]
    assert outcomes == [ATTEMPT_OUTCOME_HANDED_ON, ATTEMPT_OUTCOME_SUCCEEDED]
    assert elsewhere.request == device.request  # all of it: only on the device a form is chosen by its time


async def on_device(workplace: Workplace) -> int:
    """Return how many workers that take quantizations are the device."""
    found = await workplace.registry.devices.GetDevice(GetDeviceRequest(name=f"devices/{DEVICE}"))
    return next(queue.workers_on_device for queue in found.queues if queue.kind == "quantization")


async def test_a_quantized_package_is_read_from_the_original(
    workplace: Workplace, source: ModelVersion, converted: ModelVersion
) -> None:
    job = Job()
    async with workplace.worker(QuantizationWorkKind(DEVICE), job.run):
        first = await workplace.quantized(await create(workplace, converted, granularity="PER_TENSOR", **WEIGHTS))
        second = await workplace.quantized(await create(workplace, first.result.model_version, precision="INT4"))
    assert second.status.state == TASK_STATE_SUCCEEDED, second.status
    assert "source/model.onnx" in job.files
    version = await get(workplace, second.result.model_version)
    assert list(version.lineage.sources) == [first.result.model_version, source.name]


async def test_the_same_work_under_another_model_is_registered_there(
    workplace: Workplace, converted: ModelVersion
) -> None:
    other = await workplace.registry.model()
    async with workplace.worker(QuantizationWorkKind(DEVICE), Job().run):
        first = await workplace.quantized(await create(workplace, converted, **WEIGHTS))
        second = await create(workplace, converted, output_model=other, **WEIGHTS)
    assert second.origin.cache_hit == first.name
    assert second.result.model_version == f"{other}/versions/1"


async def test_a_source_is_read_by_the_built_in_template(workplace: Workplace, source: ModelVersion) -> None:
    job = Job()
    async with workplace.worker(QuantizationWorkKind(DEVICE), job.run):
        task = await create(workplace, source, device=DEVICE, runtime="onnxruntime", precision="INT4")
        task = await workplace.quantized(task)
    assert task.status.state == TASK_STATE_SUCCEEDED, task.status
    assert job.request["conversion"]["template"]["components"][0]["name"] == "model"
    assert job.request["spec"]["scheme"] == "WEIGHT_ONLY"
    error = await refused(workplace, source, runtime="onnxruntime", **WEIGHTS)
    assert error.fields[0][0] == "task.spec.device"
    assert "is not a package" in error.message


async def test_a_package_without_a_source_graph(workplace: Workplace, package: ModelVersion) -> None:
    error = await refused(workplace, package, **WEIGHTS)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "NO_SOURCE_GRAPH")
    assert "Upload the model itself" in error.message


async def test_a_package_of_an_older_release_says_so(workplace: Workplace, source: ModelVersion) -> None:
    damaged = await workplace.package(source, own={"no_such_field": 1})
    error = await refused(workplace, damaged, **WEIGHTS)
    assert error.reason == "NO_SOURCE_GRAPH"
    assert "no_such_field" in error.message


async def test_an_architecture_that_has_changed_is_another_network(workplace: Workplace, source: ModelVersion) -> None:
    made = CreateArchitectureRequest(architecture=new_architecture())
    architecture = await workplace.registry.architectures.CreateArchitecture(made)
    component = {"name": "main", "source_file": "model.onnx", "architecture": architecture.name}
    own = package_template(components=[component])
    same = await workplace.package(source, own=own, architectures={architecture.name: architecture.digest})
    assert (await create(workplace, same, **WEIGHTS)).name
    changed = await workplace.package(source, own=own, architectures={architecture.name: "0" * 64})
    error = await refused(workplace, changed, **WEIGHTS)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ARCHITECTURE_CHANGED")
    assert architecture.name in error.message


async def test_what_was_held_in_part_can_be_let_go_as_a_whole(workplace: Workplace, source: ModelVersion) -> None:
    version = await workplace.package(source)
    holds, read = Holds(workplace.channels["registry"]), [version.name, "datasets/absent"]
    error = await workplace.refused(holds.hold("quantizationTasks/x", read))
    assert error.code is grpc.StatusCode.NOT_FOUND
    await holds.release("quantizationTasks/x", read)
    await workplace.registry.models.DeleteModelVersion(DeleteModelVersionRequest(name=version.name))


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({}, "calibration_data", "static INT8 finds the ranges"),
        ({"precision": "FP32"}, "precision", "convert the version"),
        ({"precision": "BF16", "runtime": "onnxruntime"}, "precision", "BF16 there is offered by openvino"),
        ({"precision": "INT4", "scheme": "STATIC"}, "scheme", "takes WEIGHT_ONLY"),
        ({"precision": "FP16", "scheme": "DYNAMIC"}, "scheme", "takes no scheme"),
        ({"device": "toaster", **WEIGHTS}, "device", "there is no device 'toaster'"),
        ({"runtime": "inductor", **WEIGHTS}, "runtime", "it can for: onnxruntime, openvino"),
        ({"template": "templates/x", **WEIGHTS}, "template", "brings the template"),
        ({"memory_limit_bytes": 5, **WEIGHTS}, "memory_limit_bytes", "at least"),
        ({"calibration_data": {"samples": 4}, **WEIGHTS}, "calibration_data", "neither a dataset nor an artifact"),
    ],
)
async def test_wrong_fields_are_named(
    workplace: Workplace, converted: ModelVersion, spec: dict[str, Any], field: str, words: str
) -> None:
    error = await refused(workplace, converted, **spec)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields[0][0] == f"task.spec.{field}"
    assert words in error.message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"samples": 3, "batch_size": 4}, "the specification wants 3 samples, and one batch takes 4"),
        ({"samples": 64, "batch_size": 32}, "gives 12 samples, and one batch takes 32"),
    ],
)
async def test_a_calibration_set_smaller_than_a_batch(
    workplace: Workplace, converted: ModelVersion, digits: Dataset, data: dict[str, int], words: str
) -> None:
    error = await refused(workplace, converted, calibration_data={"dataset": digits.name, **data})
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields[0][0] == "task.spec.calibration_data.samples"
    assert words in error.message


async def test_data_that_does_not_serve(
    workplace: Workplace, converted: ModelVersion, source: ModelVersion, digits: Dataset, images: Dataset
) -> None:
    absent = {"artifact": {"sha256": "0" * 64, "size_bytes": "3"}}
    error = await refused(workplace, converted, calibration_data=absent)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BLOB_NOT_FOUND")
    steps = {"dataset": digits.name, "preprocessing": [{"cvtRGB": True}]}
    error = await refused(workplace, converted, calibration_data=steps)
    assert error.fields[0][0] == "task.spec.calibration_data.preprocessing"
    detector = await workplace.package(source, own=package_template(method="yolo"))
    error = await refused(workplace, detector, accuracy={"dataset": digits.name}, **WEIGHTS)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ANNOTATIONS_MISSING")
    assert "yolo is judged by boxes" in error.message
    raw = await workplace.package(source, own=package_template(method="raw"))
    error = await refused(workplace, raw, accuracy={"dataset": images.name}, **WEIGHTS)
    assert error.fields[0][0] == "task.spec.accuracy"


async def test_what_a_task_reads_cannot_be_deleted(workplace: Workplace, converted: ModelVersion) -> None:
    dataset = await workplace.digits(count=9)
    task = await create(workplace, converted, calibration_data={"dataset": dataset.name})
    models, datasets = workplace.registry.models, workplace.registry.datasets
    for call in (
        models.DeleteModelVersion(DeleteModelVersionRequest(name=converted.name)),
        datasets.DeleteDataset(DeleteDatasetRequest(name=dataset.name)),
    ):
        assert (await workplace.refused(call)).code is grpc.StatusCode.FAILED_PRECONDITION
    await workplace.quantizations.CancelQuantizationTask(pb.CancelQuantizationTaskRequest(name=task.name))


async def test_inputs_are_declared_by_tensor_information(workplace: Workplace) -> None:
    version, target = await workplace.open_source(), {"device": DEVICE, "runtime": "onnxruntime", **WEIGHTS}
    for text, words in (
        ("", "--tensor-information 'x:float(1*128)'"),
        ("x:floot(1*16)", "line 1, column 3"),
        ("y:float(1*16)", "says the input 'y'"),
    ):
        error = await refused(workplace, version, tensor_information=text, **target)
        assert error.fields[0][0] == "task.spec.tensor_information"
        assert words in error.message
    job = Job()
    async with workplace.worker(QuantizationWorkKind(DEVICE), job.run):
        task = await create(workplace, version, tensor_information="x:float(1*16)", **target)
        assert (await workplace.quantized(task)).status.state == TASK_STATE_SUCCEEDED
        other = await create(workplace, version, tensor_information="x:float(1*32)", **target)
        assert not other.origin.cache_hit
        assert (await workplace.quantized(other)).status.state == TASK_STATE_SUCCEEDED
    assert job.request["conversion"]["tensor_information"] == "x:float(1*32)"
