"""What a profile may ask for, and what becomes of one, over real servers and the real engines."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from lathe.optimizer.v1 import profile_service_pb2 as pb
from lathe.registry.v1.artifact_service_pb2 import GetArtifactRequest
from lathe.registry.v1.model_service_pb2 import DeleteModelVersionRequest, ModelVersion
from lathe.type.v1.failure_pb2 import FAILURE_REASON_TOOLCHAIN_UNAVAILABLE
from lathe.type.v1.measurement_pb2 import SAMPLE_SOURCE_USER
from lathe.type.v1.precision_pb2 import PRECISION_FP32
from lathe.type.v1.task_pb2 import TASK_STATE_FAILED, TASK_STATE_SUCCEEDED

from engines.profiling.request import MOST_FORMS
from engines.sandbox import Progress, Reporter
from services.optimizer.profiles.work import ProfileWorkKind
from services.platform.errors import LatheError
from services.platform.words import from_values
from services.tasks.worker.runner import Slot
from tests.contract.registry.conftest import digest_of
from tests.contract.workplace import DEVICE, ENDED, Workplace

SHORT = {"rounds": 5, "threads": [1]}


async def profile(
    request: dict[str, Any], slot: Slot, on_progress: Callable[[Progress], None], on_log: Callable[[str], None]
) -> dict[str, Any]:
    """Profile, in this process: what the sandboxed child of a worker does."""
    from engines.api.profiling import run

    return await asyncio.to_thread(run, request, slot.workdir, Reporter(lambda progress: None))


async def create(workplace: Workplace, version: ModelVersion, **spec: Any) -> pb.ProfileTask:
    wanted = from_values({"model_version": version.name, **spec}, pb.ProfileSpec())
    request = pb.CreateProfileTaskRequest(task=pb.ProfileTask(spec=wanted))
    task: pb.ProfileTask = await workplace.profiles.CreateProfileTask(request)
    return task


async def ended(workplace: Workplace, task: pb.ProfileTask) -> pb.ProfileTask:
    async with asyncio.timeout(120):
        async for seen in workplace.profiles.WatchProfileTask(pb.WatchProfileTaskRequest(name=task.name)):
            task = seen
    assert task.status.state in ENDED
    return task


async def refused(workplace: Workplace, version: ModelVersion, **spec: Any) -> LatheError:
    return await workplace.refused(create(workplace, version, **spec))


async def test_a_source_is_measured_in_each_runtime_and_equal_profiles_share_the_result(workplace: Workplace) -> None:
    version = await workplace.source()
    asked = {"device": DEVICE, "batch_sizes": [1, 2], "runtimes": ["onnxruntime", "openvino"], **SHORT}
    async with workplace.worker(ProfileWorkKind(DEVICE), profile):
        task = await ended(workplace, await create(workplace, version, **asked))
        assert task.status.state == TASK_STATE_SUCCEEDED, task.status
        again = await create(workplace, version, **asked, streams=[1])
    result = task.result
    assert [(row.runtime, row.batch_size) for row in result.measurements] == [
        ("onnxruntime", 1),
        ("openvino", 1),
        ("onnxruntime", 2),
        ("openvino", 2),
    ]
    assert all(row.latency.median_ms > 0 and row.memory_bytes > 0 for row in result.measurements)
    assert {row.precision for row in result.measurements} == {PRECISION_FP32}
    assert [control.batch_size for control in result.controls] == [1, 2]
    assert {layer.runtime for layer in result.layers} <= {"onnxruntime", "openvino"}
    assert (task.device, result.device) == (DEVICE, DEVICE)
    for report in (result.json_report, result.html_report):
        found = await workplace.registry.artifacts.GetArtifact(GetArtifactRequest(name=f"artifacts/{report.sha256}"))
        assert found.digest == report
    assert again.origin.cache_hit == task.name
    assert again.result == result


async def test_a_package_is_measured_as_it_was_built(workplace: Workplace) -> None:
    package = await workplace.package()
    buffer = io.BytesIO()
    np.savez(buffer, x=np.ones((1, 3), np.float32))
    stored = await workplace.registry.store(buffer.getvalue())
    data = {"test_data": {"sha256": stored.sha256, "size_bytes": stored.size_bytes}}
    async with workplace.worker(ProfileWorkKind(DEVICE), profile):
        task = await ended(workplace, await create(workplace, package, batch_sizes=[8], **data, **SHORT))
    assert task.status.state == TASK_STATE_SUCCEEDED, task.status
    (row,) = task.result.measurements
    assert (row.component, row.runtime, row.input_shapes) == ("main", "onnxruntime", "x: 8*3")
    assert row.sample_source == SAMPLE_SOURCE_USER


async def test_a_profile_in_which_nothing_runs_fails_with_the_reason(workplace: Workplace) -> None:
    async def gone(request: dict[str, Any], *more: Any) -> dict[str, Any]:
        request["spec"]["runtimes"] = ["ascend"]  # one that the worker does not have
        return await profile(request, *more)

    version = await workplace.source()
    async with workplace.worker(ProfileWorkKind(DEVICE), gone):
        task = await ended(workplace, await create(workplace, version, device=DEVICE, seed=77, **SHORT))
    assert task.status.state == TASK_STATE_FAILED
    assert task.status.failure.reason == FAILURE_REASON_TOOLCHAIN_UNAVAILABLE


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({}, "device", "set it here"),
        ({"device": "toaster"}, "device", "there is no device 'toaster'"),
        ({"device": DEVICE, "runtimes": ["inductor"]}, "runtimes", "builds from a network"),
        ({"device": DEVICE, "runtimes": ["cuda"]}, "runtimes", "cuda"),
        ({"device": DEVICE, "batch_sizes": [0]}, "batch_sizes[0]", "greater than or equal to 1"),
        ({"device": DEVICE, "batch_sizes": [2, 2]}, "batch_sizes", "unique"),
        (
            {"device": DEVICE, "runtimes": ["onnxruntime"], "batch_sizes": list(range(1, 31)), "threads": [1, 2, 3]},
            "batch_sizes",
            f"are 90 measurements; one profile has {MOST_FORMS} at most",
        ),
        ({"device": DEVICE, "tensor_information": "x:float(1*4)"}, "tensor_information", "x"),
        ({"device": DEVICE, "memory_limit_bytes": 5}, "memory_limit_bytes", "at least"),
    ],
)
async def test_wrong_fields_of_a_source_are_named(
    workplace: Workplace, spec: dict[str, Any], field: str, words: str
) -> None:
    error = await refused(workplace, await workplace.source(), **spec)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields[0][0] == f"task.spec.{field}"
    assert words in error.message


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"runtimes": ["openvino"]}, "runtimes", "measured as it was built"),
        ({"streams": [2]}, "streams", "measured as it was built"),
        ({"tensor_information": "x:float(1*3)"}, "tensor_information", "measured as it was built"),
        ({"batch_sizes": [1, 9]}, "batch_sizes", "9 is more than the package takes at once, which is 8"),
    ],
)
async def test_wrong_fields_of_a_package_are_named(
    workplace: Workplace, package: ModelVersion, spec: dict[str, Any], field: str, words: str
) -> None:
    error = await refused(workplace, package, **spec)
    assert (error.code, error.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, f"task.spec.{field}")
    assert words in error.message


async def test_a_package_runs_on_its_own_device_alone(workplace: Workplace, package: ModelVersion) -> None:
    error = await refused(workplace, package, device="nvidia-t4")
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "DEVICE_NOT_SERVED")
    missing = digest_of(b"never stored")
    data = {"sha256": missing.sha256, "size_bytes": missing.size_bytes}
    error = await refused(workplace, package, test_data=data)
    assert (error.code, error.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BLOB_NOT_FOUND")


async def test_a_version_is_held_while_its_profile_waits(workplace: Workplace) -> None:
    version = await workplace.source()
    task = await create(workplace, version, device=DEVICE, seed=5, **SHORT)
    delete = DeleteModelVersionRequest(name=version.name)
    error = await workplace.refused(workplace.registry.models.DeleteModelVersion(delete))
    assert error.code is grpc.StatusCode.FAILED_PRECONDITION
    await workplace.profiles.CancelProfileTask(pb.CancelProfileTaskRequest(name=task.name))
    await workplace.delete(version.name)
