"""An API process of the chaos: the real task engine, with a kind whose effect is a model in the real registry."""

from __future__ import annotations

import uuid

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from lathe.converter.v1 import conversion_service_pb2 as pb
from lathe.registry.v1.model_service_pb2 import CreateModelRequest, Model
from lathe.registry.v1.model_service_pb2_grpc import ModelServiceStub

from services.bus.topology import ensure_topology
from services.process.composition import Platform
from services.process.server import ServiceParts, run
from services.tasks.api.options import TaskOptions
from services.tasks.api.service import build_engine
from services.tasks.api.servicer import TaskServicer
from tests.integration.tasks.kit import DEVICE, EchoKind, FolderStore


class RegisteringKind(EchoKind):
    """Registers one model per task; that it is one, however often it is asked, is the request id's doing."""

    def __init__(self, registry: grpc.aio.Channel) -> None:
        super().__init__()
        self._models = ModelServiceStub(registry)

    async def complete(self, task: Message, outcome: Message, work: AnyMessage) -> Message:
        assert isinstance(task, pb.ConversionTask)
        model = Model(display_name=f"Made by {task.uid}", labels={"task": task.uid})
        request_id = str(uuid.uuid5(uuid.NAMESPACE_URL, task.uid))
        created = await self._models.CreateModel(CreateModelRequest(model=model, request_id=request_id))
        return pb.ConversionResult(model_version=f"{created.name}/versions/1")


async def build(platform: Platform) -> ServiceParts:
    """Return the parts of the service."""
    options, kind = TaskOptions.of(platform.settings), RegisteringKind(platform.channel("registry"))
    await ensure_topology(platform.bus, [kind.name], [DEVICE], options.timing)
    blobs = FolderStore(platform.settings.data_dir / "blobs")
    engine = build_engine(kind, platform.database, platform.bus, blobs, options)
    return ServiceParts(
        TaskServicer(kind, engine.handlers, engine.streams, engine.groups).register, [kind.service], engine.background
    )


if __name__ == "__main__":
    run("converter", build)
