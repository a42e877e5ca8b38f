"""Where callers are known by tokens, what tasks say is believed of services alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from lathe.internal.v1.registry_service_pb2 import (
    HoldDatasetRequest,
    HoldModelVersionRequest,
    RegisterModelVersionRequest,
    RenewHoldsRequest,
    UnholdDatasetRequest,
    UnholdModelVersionRequest,
)
from lathe.internal.v1.registry_service_pb2_grpc import RegistryServiceStub
from lathe.registry.v1.model_service_pb2 import (
    MODEL_FORMAT_PTH,
    CreateModelRequest,
    CreateModelVersionRequest,
    Lineage,
    Model,
    ModelDescription,
    ModelVersion,
)
from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub
from lathe.type.v1.digest_pb2 import Digest, File
from pydantic import SecretStr

from services.platform.errors import from_rpc_error
from services.platform.settings import Settings
from services.registry.main import NEEDS, build
from tests.contract.registry import samples
from tests.contract.registry.conftest import Registry
from tests.in_process import serve_in_process

USER = (("authorization", "Bearer of-ann"),)
SERVICE = (("authorization", "Bearer between-services"), ("x-lathe-user", "ann"))


@pytest.fixture
async def channel(shared_settings: Settings, database_url: str, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    tokens = tmp_path / "tokens.json"
    tokens.write_text(json.dumps({"of-ann": "ann"}))
    guarded = shared_settings.model_copy(
        update={
            "database_url": database_url,
            "auth_tokens_file": tokens,
            "service_token": SecretStr("between-services"),
        }
    )
    async with (
        serve_in_process("registry", build, guarded, NEEDS) as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield channel


@pytest.fixture
def models(channel: grpc.aio.Channel) -> Any:
    return ModelServiceStub(channel)


@pytest.fixture
def internal(channel: grpc.aio.Channel) -> Any:
    return RegistryServiceStub(channel)


async def answer(call: Any) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error).code
    return grpc.StatusCode.OK


async def test_only_a_service_says_which_task_made_a_version(models: Any, internal: Any) -> None:
    model = await models.CreateModel(CreateModelRequest(model=Model(display_name="m")), metadata=USER)
    assert model.owner == "ann"
    file = File(path="a.pth", digest=Digest(sha256="00" * 32, size_bytes=1))
    version = ModelVersion(format=MODEL_FORMAT_PTH, files=[file], lineage=Lineage(task="conversionTasks/1"))
    request = RegisterModelVersionRequest(parent=model.name, model_version=version)
    assert await answer(internal.RegisterModelVersion(request, metadata=USER)) is grpc.StatusCode.PERMISSION_DENIED
    # Its file is not stored, and that is the next thing to be found out.
    assert await answer(internal.RegisterModelVersion(request, metadata=SERVICE)) is grpc.StatusCode.FAILED_PRECONDITION


async def test_only_a_service_says_what_files_contain(models: Any, internal: Any) -> None:
    model = await models.CreateModel(CreateModelRequest(model=Model(display_name="m")), metadata=USER)
    version = ModelVersion(
        format=MODEL_FORMAT_PTH, files=[File(path="a.pth", digest=Digest(sha256="00" * 32, size_bytes=1))]
    )
    described = RegisterModelVersionRequest(
        parent=model.name, model_version=version, description=ModelDescription(parameter_count=1)
    )
    assert await answer(internal.RegisterModelVersion(described, metadata=USER)) is grpc.StatusCode.PERMISSION_DENIED
    assert (
        await answer(internal.RegisterModelVersion(described, metadata=SERVICE)) is grpc.StatusCode.FAILED_PRECONDITION
    )


async def test_only_a_service_holds_and_lets_go(internal: Any) -> None:
    hold = HoldModelVersionRequest(name="models/m/versions/1", holder="conversionTasks/1")
    unhold = UnholdModelVersionRequest(name="models/m/versions/1", holder="conversionTasks/1")
    assert await answer(internal.HoldModelVersion(hold, metadata=USER)) is grpc.StatusCode.PERMISSION_DENIED
    assert await answer(internal.UnholdModelVersion(unhold, metadata=USER)) is grpc.StatusCode.PERMISSION_DENIED
    renew = RenewHoldsRequest(holders=["conversionTasks/1"], ttl=Duration(seconds=1))
    assert await answer(internal.RenewHolds(renew, metadata=USER)) is grpc.StatusCode.PERMISSION_DENIED
    assert await answer(internal.RenewHolds(renew, metadata=SERVICE)) is grpc.StatusCode.OK
    assert await answer(internal.HoldModelVersion(hold, metadata=SERVICE)) is grpc.StatusCode.NOT_FOUND
    assert await answer(internal.UnholdModelVersion(unhold, metadata=SERVICE)) is grpc.StatusCode.OK


async def test_only_a_service_holds_datasets(internal: Any) -> None:
    hold = HoldDatasetRequest(name="datasets/x", holder="evaluationTasks/1")
    unhold = UnholdDatasetRequest(name="datasets/x", holder="evaluationTasks/1")
    assert await answer(internal.HoldDataset(hold, metadata=USER)) is grpc.StatusCode.PERMISSION_DENIED
    assert await answer(internal.UnholdDataset(unhold, metadata=USER)) is grpc.StatusCode.PERMISSION_DENIED
    assert await answer(internal.HoldDataset(hold, metadata=SERVICE)) is grpc.StatusCode.NOT_FOUND
    assert await answer(internal.UnholdDataset(unhold, metadata=SERVICE)) is grpc.StatusCode.OK


async def test_what_a_user_says_of_a_task_is_ignored(registry: Registry, model: str) -> None:
    file = await registry.file("a.pth", samples.state_dict())
    version = ModelVersion(format=MODEL_FORMAT_PTH, files=[file], lineage=Lineage(task="conversionTasks/1"))
    request = CreateModelVersionRequest(parent=model, model_version=version)
    assert not (await registry.models.CreateModelVersion(request)).lineage.task
