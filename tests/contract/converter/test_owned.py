"""Work whose outcome depends on what was timed before is its owner's alone; other work is everybody's."""

from __future__ import annotations

import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.internal.v1.event_pb2 import TaskAssignment
from lathe.optimizer.v1.optimization_service_pb2 import CancelOptimizationTaskRequest

from services.database.pool import Database
from tests.contract.optimizer.desk import create
from tests.contract.workplace import Workplace


async def owner_key(workplace: Workplace, service: str, task: str) -> str:
    """Return for whom a worker takes a task."""
    database = await Database.connect(workplace.settings.database_url, service)
    try:
        stored = await database.fetchval("SELECT assignment FROM tasks WHERE name = $1", task)
    finally:
        await database.close()
    return TaskAssignment.FromString(stored).owner_key


@pytest.mark.parametrize(("target", "owned"), [("nvidia-a10-tensorrt", True), ("nvidia-a10-onnxruntime-cuda", False)])
async def test_a_conversion_is_its_owners_if_its_runtime_keeps_timings(
    workplace: Workplace, target: str, owned: bool
) -> None:
    source = await workplace.source()
    spec = pb.ConversionSpec(model_version=source.name, template=f"templates/onnx-{target}-fp16")
    request = pb.CreateConversionTaskRequest(task=pb.ConversionTask(spec=spec))
    task = await workplace.conversions.CreateConversionTask(request)
    assert bool(await owner_key(workplace, "converter", task.name)) is owned
    await workplace.conversions.CancelConversionTask(pb.CancelConversionTaskRequest(name=task.name))


@pytest.mark.parametrize(("device", "owned"), [("nvidia-a10", True), ("cpu-arm64", False)])
async def test_a_search_is_its_owners_if_one_of_the_devices_runtimes_keeps_timings(
    workplace: Workplace, device: str, owned: bool
) -> None:
    source = await workplace.source()
    task = await create(workplace, source, device=device, tensor_information="x:float(1*3)")
    assert bool(await owner_key(workplace, "optimizer", task.name)) is owned
    await workplace.optimizations.CancelOptimizationTask(CancelOptimizationTaskRequest(name=task.name))
