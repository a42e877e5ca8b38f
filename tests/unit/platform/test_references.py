from __future__ import annotations

import grpc
import pytest
from lathe.converter.v1.conversion_service_pb2 import (
    ConversionSpec,
    ConversionTask,
    ConversionTaskGroup,
    CreateConversionTaskGroupRequest,
    CreateConversionTaskRequest,
)
from lathe.registry.v1.model_service_pb2 import (
    BatchGetModelVersionsRequest,
    CreateModelVersionRequest,
    DiffModelVersionsRequest,
    GetModelRequest,
    GetModelVersionRequest,
    Lineage,
    ModelVersion,
    UpdateModelVersionRequest,
)
from lathe.registry.v1.release_service_pb2 import PromoteModelVersionRequest

from services.platform.errors import LatheError, not_found
from services.platform.interceptors.references import located

NAME = "models/net/versions/1"
SPEC = ConversionSpec(model_version=NAME, template="templates/t")


@pytest.mark.parametrize(
    ("request_", "fields", "reason"),
    [
        (
            CreateConversionTaskRequest(task=ConversionTask(spec=SPEC, labels={"a": NAME})),
            ["task.spec.model_version"],
            "REFERENCE_NOT_FOUND",
        ),
        (
            CreateConversionTaskGroupRequest(group=ConversionTaskGroup(model_versions=["models/net/versions/2", NAME])),
            ["group.model_versions[1]"],
            "REFERENCE_NOT_FOUND",
        ),
        (BatchGetModelVersionsRequest(names=[NAME, NAME]), ["names[0]", "names[1]"], "NOT_FOUND"),
        (
            CreateModelVersionRequest(model_version=ModelVersion(lineage=Lineage(sources=[NAME]))),
            ["model_version.lineage.sources[0]"],
            "REFERENCE_NOT_FOUND",
        ),
        (UpdateModelVersionRequest(model_version=ModelVersion(name=NAME)), ["model_version.name"], "NOT_FOUND"),
        (DiffModelVersionsRequest(before=NAME, after="models/net/versions/2"), ["before"], "NOT_FOUND"),
        (
            PromoteModelVersionRequest(name="models/net/channels/a", model_version=NAME),
            ["model_version"],
            "REFERENCE_NOT_FOUND",
        ),
        (GetModelRequest(name="models/net"), [], "NOT_FOUND"),
        (iter(()), [], "NOT_FOUND"),
    ],
)
def test_what_does_not_exist_is_found_in_the_request(request_: object, fields: list[str], reason: str) -> None:
    error = located(not_found("model version", NAME), request_)
    assert error.fields == [(field, f"There is no model version named '{NAME}'.") for field in fields]
    assert error.reason == reason


def test_what_a_sibling_said_of_its_own_request_is_not_told() -> None:
    answer = not_found("model version", NAME)
    answer.fields = [("name", "There is none.")]
    located(answer, CreateConversionTaskRequest(task=ConversionTask(spec=SPEC)))
    assert answer.reason == "REFERENCE_NOT_FOUND"
    assert [field for field, _ in answer.fields] == ["task.spec.model_version"]
    located(answer, GetModelVersionRequest(name=NAME))
    assert answer.reason == "NOT_FOUND"
    assert [field for field, _ in answer.fields] == ["name"]


def test_other_errors_keep_their_fields() -> None:
    wrong = LatheError(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", NAME, fields=[("x", "y")])
    assert located(wrong, GetModelRequest(name=NAME)).fields == [("x", "y")]
