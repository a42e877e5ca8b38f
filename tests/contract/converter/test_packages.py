"""A package is converted for another device by one call: its source is read again, by lineage."""

from __future__ import annotations

from typing import Any

import grpc
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.type.v1.precision_pb2 import PRECISION_FP16

from services.platform.words import from_values
from tests.contract.workplace import Workplace

ASCEND = {"device": "ascend-310p", "runtime": "ascend", "precision": "FP16"}


async def create(workplace: Workplace, version: ModelVersion, **spec: Any) -> pb.ConversionTask:
    wanted = from_values({"model_version": version.name, **spec}, pb.ConversionSpec())
    request = pb.CreateConversionTaskRequest(task=pb.ConversionTask(spec=wanted))
    task: pb.ConversionTask = await workplace.conversions.CreateConversionTask(request)
    return task


async def test_a_package_converts_for_ascend_by_its_own_template(workplace: Workplace) -> None:
    source = await workplace.source()
    package = await workplace.package(source)
    task = await create(workplace, package, overrides={"values": ASCEND})
    template = task.resolved.template
    assert (template.device, template.runtime, template.precision) == ("ascend-310p", "ascend", PRECISION_FP16)
    assert template.method == "classification"  # what the package's own template says stays
    assert [component.source_file for component in template.components] == ["model.onnx"]
    directly = await create(workplace, source, template="templates/onnx-ascend-310p-ascend-fp16")
    for each in (task, directly):
        await workplace.conversions.CancelConversionTask(pb.CancelConversionTaskRequest(name=each.name))


async def test_a_package_may_be_read_by_another_template_of_its_sources_format(workplace: Workplace) -> None:
    package = await workplace.package(await workplace.source())
    task = await create(workplace, package, template="templates/onnx-ascend-310p-ascend-fp16")
    assert task.resolved.template.device == "ascend-310p"
    await workplace.conversions.CancelConversionTask(pb.CancelConversionTaskRequest(name=task.name))
    wrong = await workplace.refused(create(workplace, package, template="templates/pth-cpu-x86-64-onnxruntime-fp32"))
    assert wrong.reason == "SOURCE_FORMAT_MISMATCH"


async def test_a_package_of_a_package_goes_back_to_the_original(workplace: Workplace) -> None:
    source = await workplace.source()
    first = await workplace.package(source)
    second = await workplace.package(first)
    task = await create(workplace, second, overrides={"values": ASCEND})
    assert task.resolved.template.components[0].source_file == "model.onnx"
    await workplace.conversions.CancelConversionTask(pb.CancelConversionTaskRequest(name=task.name))


async def test_what_is_no_package_needs_a_template(workplace: Workplace) -> None:
    error = await workplace.refused(create(workplace, await workplace.source()))
    assert (error.code, error.fields[0][0]) == (grpc.StatusCode.INVALID_ARGUMENT, "task.spec.template")
    assert "is no package" in error.message


async def test_a_package_without_a_source_says_so(workplace: Workplace) -> None:
    uploaded = await workplace.package()
    error = await workplace.refused(create(workplace, uploaded, overrides={"values": ASCEND}))
    assert error.reason == "NO_SOURCE_GRAPH"
