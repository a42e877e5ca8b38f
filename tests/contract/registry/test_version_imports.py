"""A version of any size is created in the background, and is there once its import has succeeded."""

from __future__ import annotations

import asyncio
import uuid

import grpc
import pytest
from lathe.registry.v1.model_service_pb2 import (
    MODEL_FORMAT_ONNX,
    MODEL_FORMAT_PTH,
    CancelModelVersionImportRequest,
    CreateModelVersionImportRequest,
    CreateModelVersionRequest,
    DeleteModelVersionImportRequest,
    DescribeModelVersionRequest,
    GetModelVersionImportRequest,
    GetModelVersionRequest,
    ListModelVersionImportsRequest,
    ListModelVersionsRequest,
    ModelVersion,
    ModelVersionImport,
    WatchModelVersionImportRequest,
)
from lathe.type.v1.digest_pb2 import File
from lathe.type.v1.operation_pb2 import (
    OPERATION_STATE_CANCELLED,
    OPERATION_STATE_FAILED,
    OPERATION_STATE_RUNNING,
    OPERATION_STATE_SUCCEEDED,
)

from services.registry import creation
from services.registry.descriptions import Describer
from tests.contract.registry import samples
from tests.contract.registry.conftest import Registry, digest_of


def wanted(model: str, version: ModelVersion, **fields: str) -> CreateModelVersionImportRequest:
    return CreateModelVersionImportRequest(
        parent=model, model_version_import=ModelVersionImport(model_version=version), **fields
    )


async def ended(registry: Registry, name: str) -> ModelVersionImport:
    async with asyncio.timeout(60):
        watch = registry.models.WatchModelVersionImport(WatchModelVersionImportRequest(name=name))
        *_, last = [each async for each in watch]
    return last


async def test_a_version_appears_when_its_import_has_succeeded(registry: Registry, model: str) -> None:
    version = ModelVersion(
        format=MODEL_FORMAT_PTH, files=[await registry.file("a.pth", samples.state_dict(5))], labels={"team": "a"}
    )
    request = wanted(model, version, request_id=str(uuid.uuid4()))
    begun = await registry.models.CreateModelVersionImport(request)
    assert begun.name.startswith(f"{model}/imports/")
    assert (begun.state, begun.created_version) == (OPERATION_STATE_RUNNING, "")
    done = await ended(registry, begun.name)
    assert (done.state, done.progress, done.created_version) == (OPERATION_STATE_SUCCEEDED, 1.0, f"{model}/versions/1")
    made = await registry.models.GetModelVersion(GetModelVersionRequest(name=done.created_version))
    assert (made.format, list(made.files), dict(made.labels)) == (version.format, list(version.files), {"team": "a"})
    described = await registry.models.DescribeModelVersion(DescribeModelVersionRequest(name=made.name))
    assert described.parameter_count == 20
    # A repeat is the same import, which made one version.
    assert await registry.models.CreateModelVersionImport(request) == done
    versions = await registry.models.ListModelVersions(ListModelVersionsRequest(parent=model))
    assert len(versions.model_versions) == 1


async def test_what_the_files_alone_tell_fails_the_import(registry: Registry, model: str) -> None:
    version = ModelVersion(format=MODEL_FORMAT_ONNX, files=[await registry.file("a.onnx", b"no model")])
    begun = await registry.models.CreateModelVersionImport(wanted(model, version))
    done = await ended(registry, begun.name)
    assert (done.state, done.created_version) == (OPERATION_STATE_FAILED, "")
    assert "a.onnx" in done.failure.message
    assert done.failure.evidence == "INVALID_MODEL"


async def test_what_can_be_told_at_once_is_refused_at_once(registry: Registry, model: str) -> None:
    missing = ModelVersion(format=MODEL_FORMAT_PTH, files=[File(path="a.pth", digest=digest_of(b"never stored"))])
    found = await registry.refused(registry.models.CreateModelVersionImport(wanted(model, missing)))
    assert found.reason == "BLOB_NOT_FOUND"
    file = await registry.file("a.pth", samples.state_dict())
    twice = ModelVersion(format=MODEL_FORMAT_PTH, files=[file, file])
    found = await registry.refused(registry.models.CreateModelVersionImport(wanted(model, twice)))
    assert found.fields[0][0].startswith("model_version_import.model_version.files")
    fine = ModelVersion(format=MODEL_FORMAT_PTH, files=[file])
    found = await registry.refused(registry.models.CreateModelVersionImport(wanted("models/none", fine)))
    assert found.code is grpc.StatusCode.NOT_FOUND


async def test_an_import_is_cancelled_listed_and_deleted(
    registry: Registry, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Describer, "_fetch", never)
    version = ModelVersion(format=MODEL_FORMAT_PTH, files=[await registry.file("a.pth", samples.state_dict(6))])
    begun = await registry.models.CreateModelVersionImport(wanted(model, version))
    await asyncio.sleep(0.3)
    cancelled = await registry.models.CancelModelVersionImport(CancelModelVersionImportRequest(name=begun.name))
    assert cancelled.state == OPERATION_STATE_CANCELLED
    assert (await ended(registry, begun.name)).state == OPERATION_STATE_CANCELLED
    listed = await registry.models.ListModelVersionImports(
        ListModelVersionImportsRequest(parent=model, filter="state = CANCELLED")
    )
    (entry,) = listed.model_version_imports
    assert (entry.name, entry.HasField("model_version")) == (begun.name, False)
    versions = await registry.models.ListModelVersions(ListModelVersionsRequest(parent=model))
    assert not versions.model_versions
    await registry.models.DeleteModelVersionImport(DeleteModelVersionImportRequest(name=begun.name))
    gone = registry.models.GetModelVersionImport(GetModelVersionImportRequest(name=begun.name))
    assert (await registry.refused(gone)).code is grpc.StatusCode.NOT_FOUND


async def test_a_call_does_not_read_for_minutes(
    registry: Registry, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(creation, "MOST_BYTES_OF_A_CALL", 10)
    version = ModelVersion(format=MODEL_FORMAT_PTH, files=[await registry.file("a.pth", samples.state_dict(7))])
    call = registry.models.CreateModelVersion(CreateModelVersionRequest(parent=model, model_version=version))
    found = await registry.refused(call)
    assert (found.code, found.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "VERSION_NEEDS_IMPORT")
    assert "CreateModelVersionImport" in found.message
