"""A registry in this process, over real PostgreSQL and S3, and what every test of it does."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Awaitable

import grpc
import httpx
import pytest
from lathe.internal.v1.registry_service_pb2 import RegisterModelVersionRequest
from lathe.internal.v1.registry_service_pb2_grpc import RegistryServiceStub
from lathe.registry.v1.alias_service_pb2_grpc import AliasServiceStub
from lathe.registry.v1.architecture_service_pb2 import Architecture
from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub
from lathe.registry.v1.artifact_service_pb2 import (
    UPLOAD_STATE_VERIFYING,
    CreateUploadRequest,
    FinalizeUploadRequest,
    Upload,
    WatchUploadRequest,
)
from lathe.registry.v1.artifact_service_pb2_grpc import ArtifactServiceStub
from lathe.registry.v1.dataset_service_pb2_grpc import DatasetServiceStub
from lathe.registry.v1.device_service_pb2_grpc import DeviceServiceStub
from lathe.registry.v1.info_service_pb2_grpc import InfoServiceStub
from lathe.registry.v1.model_service_pb2 import CreateModelRequest, CreateModelVersionRequest, Model, ModelVersion
from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub
from lathe.registry.v1.release_service_pb2_grpc import ReleaseServiceStub
from lathe.template.v1.template_service_pb2_grpc import TemplateServiceStub
from lathe.type.v1.digest_pb2 import Digest, File

from services.platform.errors import LatheError, from_rpc_error
from services.platform.settings import Settings
from services.registry.main import NEEDS, build
from services.template import main as template
from tests.in_process import serve_in_process


def digest_of(data: bytes) -> Digest:
    """Return the digest of `data`."""
    return Digest(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))


def random_bytes(size: int) -> bytes:
    """Return bytes that no other test stores."""
    return os.urandom(size)


class Registry:
    """The stubs, and the few steps that many tests share."""

    def __init__(
        self, channel: grpc.aio.Channel, http: httpx.AsyncClient, templates: grpc.aio.Channel | None = None
    ) -> None:
        self.models = ModelServiceStub(channel)
        self.internal = RegistryServiceStub(channel)
        self.aliases = AliasServiceStub(channel)
        self.devices = DeviceServiceStub(channel)
        self.info = InfoServiceStub(channel)
        self.architectures = ArchitectureServiceStub(channel)
        self.artifacts = ArtifactServiceStub(channel)
        self.datasets = DatasetServiceStub(channel)
        self.templates = TemplateServiceStub(templates or channel)
        self.releases = ReleaseServiceStub(channel)
        self.http = http

    async def refused(self, call: Awaitable[object]) -> LatheError:
        """Await a call that must be refused; return how."""
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        return from_rpc_error(caught.value)

    async def put(self, upload: Upload, data: bytes) -> None:
        """Send every part that has not arrived."""
        for part in upload.parts:
            if not part.received:
                answer = await self.http.put(part.url, content=data[part.offset : part.offset + part.size_bytes])
                answer.raise_for_status()

    async def store(self, data: bytes) -> Digest:
        """Upload `data` as a user does; return its digest."""
        upload = await self.artifacts.CreateUpload(CreateUploadRequest(display_name="f", size_bytes=len(data)))
        await self.put(upload, data)
        return (await self.finalized(upload, digest_of(data))).digest

    async def finalized(self, upload: Upload, digest: Digest) -> Upload:
        """Finalize an upload, and wait until a large one is verified."""
        ended = await self.artifacts.FinalizeUpload(FinalizeUploadRequest(name=upload.name, digest=digest))
        if ended.state == UPLOAD_STATE_VERIFYING:
            *_, ended = [each async for each in self.artifacts.WatchUpload(WatchUploadRequest(name=upload.name))]
        return ended

    async def file(self, path: str, data: bytes) -> File:
        """Upload `data`; return it as the file `path` of a version."""
        return File(path=path, digest=await self.store(data))

    async def model(self) -> str:
        """Create a model; return its name."""
        made = await self.models.CreateModel(
            CreateModelRequest(model=Model(display_name="Model"), model_id=unique("model"))
        )
        return made.name

    async def version(self, model: str, version: ModelVersion) -> ModelVersion:
        """Add a version to a model: as a user does, or as the task of its lineage."""
        if version.lineage.task:
            request = RegisterModelVersionRequest(parent=model, model_version=version)
            return await self.internal.RegisterModelVersion(request)
        return await self.models.CreateModelVersion(CreateModelVersionRequest(parent=model, model_version=version))


@pytest.fixture
async def model(registry: Registry) -> str:
    return await registry.model()


@pytest.fixture(scope="session")
async def registry(shared_settings: Settings) -> AsyncIterator[Registry]:
    async with serve_in_process("template", template.build, shared_settings, template.NEEDS) as template_address:
        settings = shared_settings.model_copy(update={"template_address": template_address})
        async with (
            serve_in_process("registry", build, settings, NEEDS) as address,
            grpc.aio.insecure_channel(address) as channel,
            grpc.aio.insecure_channel(template_address) as templates,
            httpx.AsyncClient() as http,
        ):
            yield Registry(channel, http, templates)


def unique(prefix: str = "t") -> str:
    """Return an identifier that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def unique_class(prefix: str = "Net") -> str:
    """Return a class name that no other test uses."""
    return f"{prefix}{uuid.uuid4().hex[:12]}"


def source_of(class_name: str, function: str = "build") -> str:
    """Return the source of an architecture."""
    return f'@architecture("{class_name}")\ndef {function}(num_classes: int = 10):\n    return None\n'


def new_architecture(
    *, class_name: str = "", display_name: str = "", config: str = "", labels: dict[str, str] | None = None
) -> Architecture:
    """Return an architecture that can be created; names are made up if not given."""
    class_name = class_name or unique_class()
    return Architecture(
        display_name=display_name or unique("Network"),
        class_name=class_name,
        source=source_of(class_name),
        config=config,
        labels=labels,
    )
