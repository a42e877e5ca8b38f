"""TemplateService over a real gRPC server and a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from grpc_status import rpc_status
from lathe.internal.v1.resolution_service_pb2 import ResolveTaskTemplateRequest
from lathe.internal.v1.resolution_service_pb2_grpc import ResolutionServiceStub
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_ONNX, MODEL_FORMAT_PACKAGE
from lathe.template.v1.template_service_pb2 import (
    CreateTemplateRequest,
    DeleteTemplateRequest,
    GetTemplateRequest,
    ListTemplatesRequest,
    ResolveTemplateRequest,
    Template,
    UpdateTemplateRequest,
)
from lathe.template.v1.template_service_pb2_grpc import TemplateServiceStub
from lathe.type.v1.view_pb2 import VIEW_FULL

from services.database.pool import Database
from services.platform.settings import Settings
from services.platform.words import from_values
from services.template import handlers
from services.template.builtin import built_in_templates
from services.template.main import NEEDS, build
from tests.in_process import serve_in_process

BUILT_IN = "templates/pth-cpu-x86-64-openvino-fp32"


@pytest.fixture
async def channel(database_url: str) -> AsyncIterator[grpc.aio.Channel]:
    settings = Settings(database_url=database_url)
    async with (
        serve_in_process("template", build, settings, NEEDS) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel


@pytest.fixture
def templates(channel: grpc.aio.Channel) -> Any:
    return TemplateServiceStub(channel)


async def test_requests_that_are_too_old_to_be_repeated_are_forgotten(database_url: str) -> None:
    settings = Settings(database_url=database_url)
    database = await Database.connect(database_url, "template")
    try:
        async with serve_in_process("template", build, settings, NEEDS):
            await database.execute(
                "INSERT INTO request_ids (owner, request_id, method, fingerprint, resource, create_time) "
                "SELECT 'ann', gen_random_uuid(), 'CreateTemplate', '', gen_random_uuid(), "
                "now() - days * interval '1 day' FROM unnest(ARRAY[1, 8]) AS days"
            )
        async with serve_in_process("template", build, settings, NEEDS), asyncio.timeout(20):
            while await database.fetchval("SELECT count(*) FROM request_ids") != 1:
                await asyncio.sleep(0.02)
    finally:
        await database.close()


NV12 = {"input_color": "NV12", "model_color": "RGB", "input_range": "WIDE"}
WIDE_RGB = {"input_color": "RGB", "model_color": "BGR", "input_range": "WIDE"}


def digits(**changes: object) -> CreateTemplateRequest:
    template = {
        "display_name": "Digits",
        "source_format": "PTH",
        "device": "cpu-x86-64",
        "runtime": "onnxruntime",
        "error_threshold": "1e-5",
        "components": [{"name": "net", "inputs": [{"name": "image", "shape": [1, 1, 8, 8]}]}],
        **changes,
    }
    return from_values({"template": template}, CreateTemplateRequest())


async def refused(call: Any) -> tuple[grpc.StatusCode, str, str, list[str]]:
    """Return code, reason, message and wrong fields of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    status = rpc_status.from_call(error)
    info, bad = ErrorInfo(), BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    assert info.domain == "lathe"
    return error.code(), info.reason, error.details() or "", [each.field for each in bad.field_violations]


async def test_built_in_templates_are_there_and_stay(templates: Any) -> None:
    built_in = await templates.GetTemplate(GetTemplateRequest(name=BUILT_IN))
    assert built_in.built_in
    code, reason, _, _ = await refused(templates.DeleteTemplate(DeleteTemplateRequest(name=BUILT_IN)))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "BUILT_IN_TEMPLATE")
    change = UpdateTemplateRequest(template=Template(name=BUILT_IN, repo="mine"))
    change.update_mask.paths.append("repo")
    assert (await refused(templates.UpdateTemplate(change)))[1] == "BUILT_IN_TEMPLATE"


async def test_a_second_start_changes_nothing(templates: Any, database_url: str) -> None:
    before = await templates.GetTemplate(GetTemplateRequest(name=BUILT_IN))
    async with serve_in_process("template", build, Settings(database_url=database_url), NEEDS):
        assert await templates.GetTemplate(GetTemplateRequest(name=BUILT_IN)) == before


async def test_a_new_release_brings_its_own(templates: Any, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await templates.CreateTemplate(digits(display_name="Mine"))
    await templates.CreateTemplate(digits(display_name="Of a name"))
    first, *rest = built_in_templates()
    changed, clash, same_display_name = Template(), Template(), Template()
    for each in (changed, clash, same_display_name):
        each.CopyFrom(first)
    changed.description = "Better."
    clash.MergeFrom(Template(name="templates/mine", display_name="New"))
    same_display_name.MergeFrom(Template(name="templates/newer", display_name="Of a name"))
    release = [changed, clash, same_display_name, *rest[1:]]
    monkeypatch.setattr(handlers, "built_in_templates", lambda: release)
    async with serve_in_process("template", build, Settings(database_url=database_url), NEEDS):
        assert (await templates.GetTemplate(GetTemplateRequest(name=first.name))).description == "Better."
        assert not (await templates.GetTemplate(GetTemplateRequest(name="templates/mine"))).built_in
        for gone in ("templates/newer", rest[0].name):
            assert (await refused(templates.GetTemplate(GetTemplateRequest(name=gone))))[0] is (
                grpc.StatusCode.NOT_FOUND
            )
        taken = digits(display_name="Same name")
        taken.template_id = rest[0].name.removeprefix("templates/")
        assert (await refused(templates.CreateTemplate(taken)))[1] == "NAME_RETIRED"
    # A release that has it again gives it its name; a user's stays gone.
    await templates.DeleteTemplate(DeleteTemplateRequest(name="templates/mine"))
    monkeypatch.setattr(handlers, "built_in_templates", lambda: [*release, rest[0]])
    async with serve_in_process("template", build, Settings(database_url=database_url), NEEDS):
        assert (await templates.GetTemplate(GetTemplateRequest(name=rest[0].name))).built_in
        refusal = await refused(templates.GetTemplate(GetTemplateRequest(name="templates/mine")))
        assert refusal[0] is grpc.StatusCode.NOT_FOUND


async def test_a_template_of_ones_own(templates: Any) -> None:
    created = await templates.CreateTemplate(digits())
    assert created.name == "templates/digits"
    assert created.error_threshold == 1e-5
    assert not created.built_in
    change = UpdateTemplateRequest(template=Template(name=created.name, etag=created.etag, error_threshold=0.00005))
    change.update_mask.paths.append("error_threshold")
    assert (await templates.UpdateTemplate(change)).error_threshold == 5e-5
    assert (await refused(templates.UpdateTemplate(change)))[1] == "ETAG_MISMATCH"
    await templates.DeleteTemplate(DeleteTemplateRequest(name=created.name))
    assert (await refused(templates.GetTemplate(GetTemplateRequest(name=created.name))))[0] == (
        grpc.StatusCode.NOT_FOUND
    )


async def test_the_catalog_filters_and_searches(templates: Any) -> None:
    await templates.CreateTemplate(digits())

    async def names(**request: Any) -> list[str]:
        return [each.name for each in (await templates.ListTemplates(ListTemplatesRequest(**request))).templates]

    assert await names(filter="built_in = false") == ["templates/digits"]
    assert "templates/digits" not in await names(filter="built_in = true")
    assert all("openvino" in name for name in await names(filter="runtime = openvino"))
    assert all("nvidia-t4" in name for name in await names(filter="device = nvidia-t4"))
    assert "templates/digits" in await names(filter="source_format = PTH AND device = cpu-x86-64")
    (basic,) = (await templates.ListTemplates(ListTemplatesRequest(filter="name = templates/digits"))).templates
    assert (basic.runtime, len(basic.components)) == ("onnxruntime", 0)
    full = ListTemplatesRequest(filter="name = templates/digits", view=VIEW_FULL)
    assert (await templates.ListTemplates(full)).templates[0].components
    assert await names(search="DIGTIS") == ["templates/digits"]
    assert await names(search="imagenet openvino bf16") == ["templates/pth-imagenet-cpu-x86-64-openvino-bf16"]


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"device": "tpu-v9"}, "UNKNOWN_DEVICE", "template.device"),
        ({"runtime": "tensorrt"}, "UNKNOWN_RUNTIME", "template.runtime"),
        ({"runtime": "inductor", "source_format": MODEL_FORMAT_ONNX}, "UNSUITABLE_RUNTIME", "template.runtime"),
        ({"source_format": MODEL_FORMAT_PACKAGE}, "INVALID_ARGUMENT", "template.source_format"),
        ({"precision": "BF16"}, "UNSUPPORTED_PRECISION", "template.precision"),
        ({"components": []}, "INVALID_ARGUMENT", "template.components"),
        ({"runtime_options": {"stream": "2"}}, "INVALID_ARGUMENT", "template.runtime_options[stream]"),
        ({"runtime_options": {"streams": "many"}}, "INVALID_ARGUMENT", "template.runtime_options[streams]"),
        ({"runtime_options": {str(i): "1" for i in range(33)}}, "INVALID_ARGUMENT", "template.runtime_options"),
        ({"error_threshold": -1}, "INVALID_ARGUMENT", "template.error_threshold"),
        (
            {"components": [{"name": "n", "inputs": [{"name": "x", "shape": [1, 0]}]}]},
            "INVALID_ARGUMENT",
            "template.components[0].inputs[0].shape[1]",
        ),
        (
            {"components": [{"name": "n", "inputs": [{"name": "x", "shape": [1, 65536, 65536]}]}]},
            "INVALID_ARGUMENT",
            "template.components.n.inputs.x.shape",
        ),
        (
            {"components": [{"name": "n", "inputs": [{"name": "x", "shape": [1, 3, 8, 7], "preprocessing": NV12}]}]},
            "INVALID_ARGUMENT",
            "template.components.n.inputs.x.shape",
        ),
        (
            {
                "components": [
                    {"name": "n", "inputs": [{"name": "x", "preprocessing": NV12, "shape": [1, 3, 8, 8]}]},
                    {"name": "m", "inputs": [{"name": "y", "preprocessing": WIDE_RGB, "shape": [1, 3, 8, 8]}]},
                ]
            },
            "INVALID_ARGUMENT",
            "template.components.m.inputs.y.preprocessing.input_range",
        ),
    ],
)
async def test_an_unsound_template_is_refused(
    templates: Any, changes: dict[str, object], reason: str, field: str
) -> None:
    code, found, _, fields = await refused(templates.CreateTemplate(digits(**changes)))
    assert (code, found, fields) == (grpc.StatusCode.INVALID_ARGUMENT, reason, [field])


async def test_resolving_shows_where_each_value_comes_from(templates: Any) -> None:
    await templates.CreateTemplate(digits())
    request = from_values(
        {"name": "templates/digits", "overrides": {"values": {"components": [{"name": "net", "max_batch": 4}]}}},
        ResolveTemplateRequest(),
    )
    resolved = await templates.ResolveTemplate(request)
    assert resolved.template.components[0].max_batch == 4
    assert {entry.path for entry in resolved.provenance} >= {"components.net.max_batch", "error_threshold", "runtime"}


async def test_resolving_says_what_is_still_open(templates: Any) -> None:
    code, _, message, fields = await refused(templates.ResolveTemplate(ResolveTemplateRequest(name=BUILT_IN)))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert fields == ["overrides.values.components.model.inputs"]
    assert "give their names and shapes" in message


async def test_a_template_that_changed_is_resolved_anew(templates: Any, channel: grpc.aio.Channel) -> None:
    resolution: Any = ResolutionServiceStub(channel)
    made = await templates.CreateTemplate(digits())
    request = ResolveTaskTemplateRequest(name=made.name)
    first = await resolution.ResolveTaskTemplate(request)
    assert await resolution.ResolveTaskTemplate(request) == first
    made.repo = "another"
    await templates.UpdateTemplate(UpdateTemplateRequest(template=made, update_mask=FieldMask(paths=["repo"])))
    assert (await resolution.ResolveTaskTemplate(request)).template.repo == "another"
    request.overrides.values.repo = "mine"
    assert (await resolution.ResolveTaskTemplate(request)).template.repo == "mine"
