"""A task that is created from an alias keeps the version that it stood for."""

from __future__ import annotations

import uuid
from typing import Any

import grpc
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.converter.v1 import conversion_service_pb2 as conversion
from lathe.evaluator.v1 import evaluation_service_pb2 as evaluation
from lathe.optimizer.v1 import optimization_service_pb2 as optimization
from lathe.quantizer.v1 import quantization_service_pb2 as quantization
from lathe.registry.v1.alias_service_pb2 import Alias, DeleteAliasRequest, UpdateAliasRequest
from lathe.registry.v1.dataset_service_pb2 import Dataset
from lathe.registry.v1.model_service_pb2 import ModelVersion
from lathe.template.v1.template_service_pb2 import ListTemplatesRequest, ResolveTemplateRequest

from services.platform.words import from_values
from tests.contract.workplace import DEVICE, Workplace


async def point(workplace: Workplace, alias: str, version: ModelVersion) -> str:
    wanted = Alias(name=f"{version.name.partition('/versions/')[0]}/aliases/{alias}", model_version=version.name)
    mask = FieldMask(paths=["model_version"])
    request = UpdateAliasRequest(alias=wanted, update_mask=mask, allow_missing=True)
    return (await workplace.registry.aliases.UpdateAlias(request)).name


async def test_every_kind_of_task_records_the_number(workplace: Workplace, digits: Dataset) -> None:
    source = await workplace.source()
    package = await workplace.package(source)
    raw, best = await point(workplace, "raw", source), await point(workplace, "best", package)
    page = await workplace.registry.templates.ListTemplates(
        ListTemplatesRequest(page_size=1, filter=f'source_format = ONNX AND device = "{DEVICE}"')
    )
    template = page.templates[0].name
    calls: list[tuple[Any, Any, dict[str, Any], ModelVersion]] = [
        (
            workplace.conversions.CreateConversionTask,
            conversion.CreateConversionTaskRequest(),
            {"model_version": raw, "template": template},
            source,
        ),
        (
            workplace.quantizations.CreateQuantizationTask,
            quantization.CreateQuantizationTaskRequest(),
            {"model_version": best, "calibration_data": {"dataset": digits.name}},
            package,
        ),
        (
            workplace.optimizations.CreateOptimizationTask,
            optimization.CreateOptimizationTaskRequest(),
            {"model_version": raw, "device": DEVICE},
            source,
        ),
        (
            workplace.evaluations.CreateEvaluationTask,
            evaluation.CreateEvaluationTaskRequest(),
            {"model_version": best, "dataset": digits.name},
            package,
        ),
    ]
    for create, request, spec, version in calls:
        from_values({"task": {"spec": spec}}, request)
        assert (await create(request)).spec.model_version == version.name
    resolved = await workplace.registry.templates.ResolveTemplate(
        ResolveTemplateRequest(name=template, model_version=raw)
    )
    assert resolved.template.components[0].source_file == "model.onnx"


async def test_a_repeat_is_the_same_request_when_the_alias_has_moved_or_gone(
    workplace: Workplace, digits: Dataset
) -> None:
    source = await workplace.source()
    first, second = await workplace.package(source), await workplace.package(source)
    best = await point(workplace, "best", first)
    spec = evaluation.EvaluationSpec(model_version=best, dataset=digits.name)
    request = evaluation.CreateEvaluationTaskRequest(
        task=evaluation.EvaluationTask(spec=spec), request_id=str(uuid.uuid4())
    )
    create = workplace.evaluations.CreateEvaluationTask
    task = await create(request)
    await point(workplace, "best", second)
    assert (await create(request)).name == task.name
    again = evaluation.CreateEvaluationTaskRequest(task=request.task)
    assert (await create(again)).spec.model_version == second.name
    await workplace.registry.aliases.DeleteAlias(DeleteAliasRequest(name=best))
    assert (await create(request)).spec.model_version == first.name
    gone = await workplace.refused(create(again))
    assert (gone.code, gone.message) == (grpc.StatusCode.NOT_FOUND, f"There is no alias named '{best}'.")
    assert [field for field, _ in gone.fields] == ["task.spec.model_version"]


async def test_a_group_of_aliases_is_one_of_versions(workplace: Workplace) -> None:
    sources = [await workplace.source(), await workplace.source("Neg")]
    names = [await point(workplace, "best", source) for source in sources]
    group = optimization.OptimizationTaskGroup(
        display_name="aliases", model_versions=names, spec=optimization.OptimizationSpec(device=DEVICE)
    )
    request = optimization.CreateOptimizationTaskGroupRequest(group=group, request_id=str(uuid.uuid4()))
    create = workplace.optimizations.CreateOptimizationTaskGroup
    made = await create(request)
    assert [member.model_version for member in made.members] == [source.name for source in sources]
    assert all(member.task for member in made.members)
    for name in names:
        await workplace.registry.aliases.DeleteAlias(DeleteAliasRequest(name=name))
    assert (await create(request)).name == made.name
