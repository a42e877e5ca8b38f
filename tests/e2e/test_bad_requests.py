"""Requests that must be refused: each with a status, a reason, the field, and nothing left behind."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf.field_mask_pb2 import FieldMask
from lathe.converter.v1 import conversion_service_pb2 as converter
from lathe.registry.v1 import architecture_service_pb2 as architecture
from lathe.registry.v1 import artifact_service_pb2 as artifact
from lathe.registry.v1 import model_service_pb2 as model
from lathe.template.v1 import template_service_pb2 as template

from services.cli.documents import read_document
from tests.e2e.calls import Refusal, refusal
from tests.e2e.desk import Desk
from tests.e2e.tiny import network_source, template_text

GOOD = network_source("Good")


@pytest.mark.parametrize(
    ("source", "reason", "said"),
    [
        (GOOD.replace("return nn", "retrn nn"), "INVALID_ARCHITECTURE", "line 7"),
        (GOOD.replace('@architecture("Good")\n', ""), "INVALID_ARCHITECTURE", "decorator"),
        (GOOD.replace('"Good"', '"Bad"'), "CLASS_NAME_MISMATCH", "Bad"),
    ],
    ids=["syntax error", "no decorator", "other name"],
)
def test_an_architecture_that_cannot_be(desk: Desk, source: str, reason: str, said: str) -> None:
    request = architecture.CreateArchitectureRequest(
        architecture=architecture.Architecture(display_name="Good", class_name="Good", source=source)
    )
    refused = refusal(desk.rpc.architectures.CreateArchitecture, request)
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", reason)
    assert said in refused.message
    found = architecture.GetArchitectureRequest(name="architectures/good")
    assert refusal(desk.rpc.architectures.GetArchitecture, found).code == "NOT_FOUND"


def test_an_architecture_whose_class_name_is_taken(desk: Desk) -> None:
    taken = architecture.Architecture(
        display_name="Another", class_name="TinyNet", source=network_source("TinyNet", width=8)
    )
    request = architecture.CreateArchitectureRequest(architecture=taken)
    refused = refusal(desk.rpc.architectures.CreateArchitecture, request)
    assert refused.code == "ALREADY_EXISTS"
    assert "TinyNet" in refused.message


def with_shape(*shape: int) -> dict[str, Any]:
    components = yaml.safe_load(template_text(""))["components"]
    components[0]["inputs"][0]["shape"] = list(shape)
    return {"components": components}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (with_shape(1, 3, 0, 8), "shape"),
        (with_shape(1, 3, -8, 8), "shape"),
        (with_shape(1, 1000, 1000, 1000), "elements"),
        ({"device": "abacus"}, "cpu-x86-64"),
        ({"device": ""}, "device"),
        ({"runtime": "slide-rule"}, "onnxruntime"),
        ({"error_threshold": 2}, "error_threshold"),
        ({"components": []}, "components"),
    ],
    ids=["zero", "negative", "a billion", "device", "no device", "runtime", "threshold", "no component"],
)
def test_a_template_that_no_conversion_could_follow(
    desk: Desk, tmp_path: Path, fields: dict[str, Any], said: str
) -> None:
    (tmp_path / "bad.yaml").write_text(template_text("Bad", **fields))
    document = read_document(tmp_path / "bad.yaml", template.Template())
    refused = refusal(desk.rpc.templates.CreateTemplate, template.CreateTemplateRequest(template=document))
    assert refused.code == "INVALID_ARGUMENT"
    assert refused.fields
    assert said in refused.message
    found = refusal(desk.rpc.templates.GetTemplate, template.GetTemplateRequest(name="templates/bad"))
    assert found.code == "NOT_FOUND"


@pytest.mark.parametrize("shape", [(1, 3, 0, 8), (1, 3, -1, 8), (1, 1000, 1000, 1000)])
def test_a_task_whose_overrides_have_such_a_shape(desk: Desk, shape: tuple[int, ...]) -> None:
    inputs = [template.ComponentInput(name="image", shape=shape)]
    values = template.Template(components=[template.Component(name="net", inputs=inputs)])
    request = desk.request(desk.keyed, overrides=template.TemplateOverrides(values=values))
    before = desk.busy()
    refused = refusal(desk.rpc.conversions.CreateConversionTask, request)
    assert refused.code == "INVALID_ARGUMENT"
    assert refused.fields
    assert set(desk.busy()) <= set(before)


UNKNOWN: dict[str, tuple[Callable[[Desk], Any], Any]] = {
    "model": (lambda desk: desk.rpc.models.GetModel, model.GetModelRequest(name="models/none")),
    "version": (
        lambda desk: desk.rpc.models.GetModelVersion,
        model.GetModelVersionRequest(name="models/tiny/versions/99"),
    ),
    "no number": (
        lambda desk: desk.rpc.models.GetModelVersion,
        model.GetModelVersionRequest(name="models/tiny/versions/last"),
    ),
    "architecture": (
        lambda desk: desk.rpc.architectures.GetArchitecture,
        architecture.GetArchitectureRequest(name="architectures/none"),
    ),
    "template": (lambda desk: desk.rpc.templates.GetTemplate, template.GetTemplateRequest(name="templates/none")),
    "upload": (lambda desk: desk.rpc.artifacts.GetUpload, artifact.GetUploadRequest(name="uploads/none")),
    "artifact": (
        lambda desk: desk.rpc.artifacts.GetArtifact,
        artifact.GetArtifactRequest(name=f"artifacts/{'0' * 64}"),
    ),
    "task": (
        lambda desk: desk.rpc.conversions.GetConversionTask,
        converter.GetConversionTaskRequest(name="conversionTasks/none"),
    ),
    "task to cancel": (
        lambda desk: desk.rpc.conversions.CancelConversionTask,
        converter.CancelConversionTaskRequest(name=f"conversionTasks/{uuid.uuid4()}"),
    ),
    "source of a task": (
        lambda desk: desk.rpc.conversions.CreateConversionTask,
        converter.CreateConversionTaskRequest(
            task=converter.ConversionTask(
                spec=converter.ConversionSpec(model_version="models/tiny/versions/99", template="templates/tiny")
            )
        ),
    ),
    "template of a task": (
        lambda desk: desk.rpc.conversions.CreateConversionTask,
        converter.CreateConversionTaskRequest(
            task=converter.ConversionTask(
                spec=converter.ConversionSpec(model_version="models/tiny/versions/1", template="templates/none")
            )
        ),
    ),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_an_unknown_id(desk: Desk, what: str) -> None:
    call, request = UNKNOWN[what]
    refused = refusal(call(desk), request)
    refers = what.endswith("of a task")
    assert (refused.code, refused.reason) == ("NOT_FOUND", "REFERENCE_NOT_FOUND" if refers else "NOT_FOUND")


LISTS: dict[str, Callable[[Desk, dict[str, Any]], tuple[Any, Any]]] = {
    "models": lambda desk, page: (desk.rpc.models.ListModels, model.ListModelsRequest(**page)),
    "versions": lambda desk, page: (
        desk.rpc.models.ListModelVersions,
        model.ListModelVersionsRequest(parent="models/-", **page),
    ),
    "architectures": lambda desk, page: (
        desk.rpc.architectures.ListArchitectures,
        architecture.ListArchitecturesRequest(**page),
    ),
    "templates": lambda desk, page: (desk.rpc.templates.ListTemplates, template.ListTemplatesRequest(**page)),
    "tasks": lambda desk, page: (
        desk.rpc.conversions.ListConversionTasks,
        converter.ListConversionTasksRequest(**page),
    ),
}


@pytest.mark.parametrize("what", LISTS)
def test_pages_that_cannot_be(desk: Desk, what: str) -> None:
    def refused(**page: Any) -> Refusal:
        return refusal(*LISTS[what](desk, page))

    assert (refused(page_token="nonsense").code, refused(page_token="nonsense").fields) == (
        "INVALID_ARGUMENT",
        ("page_token",),
    )
    negative = refused(page_size=-1)
    assert (negative.code, negative.fields) == ("INVALID_ARGUMENT", ("page_size",))
    assert refused(order_by="colour").code == "INVALID_ARGUMENT"
    call, request = LISTS[what](desk, {"page_size": 100_000})
    assert call(request)


def test_a_page_token_belongs_to_its_query(desk: Desk) -> None:
    first = desk.rpc.templates.ListTemplates(template.ListTemplatesRequest(page_size=1))
    assert first.next_page_token
    other = template.ListTemplatesRequest(page_size=1, page_token=first.next_page_token, filter="built_in = true")
    refused = refusal(desk.rpc.templates.ListTemplates, other)
    assert (refused.code, refused.fields) == ("INVALID_ARGUMENT", ("page_token",))


def test_a_stale_etag_changes_nothing(desk: Desk) -> None:
    def renamed(etag: str, name: str) -> model.UpdateModelRequest:
        changed = model.Model(name="models/tiny", display_name=name, etag=etag)
        return model.UpdateModelRequest(model=changed, update_mask=FieldMask(paths=["display_name"]))

    old = desk.rpc.models.GetModel(model.GetModelRequest(name="models/tiny"))
    new = desk.rpc.models.UpdateModel(renamed(old.etag, "tiny model"))
    assert new.etag != old.etag
    refused = refusal(desk.rpc.models.UpdateModel, renamed(old.etag, "lost update"))
    assert (refused.code, refused.reason) == ("ABORTED", "ETAG_MISMATCH")
    stale = model.DeleteModelVersionRequest(name=desk.keyed, etag='"0"')
    assert refusal(desk.rpc.models.DeleteModelVersion, stale).reason == "ETAG_MISMATCH"
    assert desk.rpc.models.GetModel(model.GetModelRequest(name="models/tiny")).display_name == "tiny model"
    desk.rpc.models.UpdateModel(renamed(new.etag, "tiny"))


def test_a_built_in_template_stays(desk: Desk) -> None:
    builtin = template.ListTemplatesRequest(filter="built_in = true", page_size=1)
    name = desk.rpc.templates.ListTemplates(builtin).templates[0].name
    refused = refusal(desk.rpc.templates.DeleteTemplate, template.DeleteTemplateRequest(name=name))
    assert refused.code == "FAILED_PRECONDITION"


def test_the_same_request_id_twice_makes_one(desk: Desk) -> None:
    request = model.CreateModelRequest(model=model.Model(display_name="Once"), request_id=str(uuid.uuid4()))
    first, second = desk.rpc.models.CreateModel(request), desk.rpc.models.CreateModel(request)
    assert first == second
    request.model.display_name = "Twice"
    refused = refusal(desk.rpc.models.CreateModel, request)
    assert (refused.code, refused.reason) == ("INVALID_ARGUMENT", "REQUEST_ID_REUSED")
    assert refusal(desk.rpc.models.GetModel, model.GetModelRequest(name="models/twice")).code == "NOT_FOUND"


def test_an_unreadable_request_id(desk: Desk) -> None:
    request = model.CreateModelRequest(model=model.Model(display_name="Never"), request_id="once")
    refused = refusal(desk.rpc.models.CreateModel, request)
    assert (refused.code, refused.fields) == ("INVALID_ARGUMENT", ("request_id",))
