"""A registry whose evaluator answers what a test tells it, and the bucket behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import httpx
import pytest
from lathe.evaluator.v1.evaluation_service_pb2 import EvaluationTask, GetEvaluationTaskRequest
from lathe.evaluator.v1.evaluation_service_pb2_grpc import (
    EvaluationServiceServicer,
    add_EvaluationServiceServicer_to_server,
)

from services.platform.settings import Settings
from services.registry.main import NEEDS, build
from tests.contract.registry.conftest import Registry
from tests.contract.registry.releases.desk import Desk, Shelf
from tests.in_process import serve_in_process


class Evaluations(EvaluationServiceServicer):
    """Answers with the evaluations that tests put into it: the registry asks for nothing but one by its name."""

    def __init__(self) -> None:
        self.tasks: dict[str, EvaluationTask] = {}

    async def GetEvaluationTask(  # noqa: N802 - named as the proto names it
        self, request: GetEvaluationTaskRequest, context: grpc.aio.ServicerContext[object, object]
    ) -> EvaluationTask:
        if request.name not in self.tasks:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"There is no evaluation task named '{request.name}'.")
        return self.tasks[request.name]


@pytest.fixture(scope="session")
async def evaluations() -> AsyncIterator[tuple[Evaluations, str]]:
    server, servicer = grpc.aio.server(), Evaluations()  # type: ignore[abstract]  # the others are not called
    add_EvaluationServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield servicer, f"127.0.0.1:{port}"
    await server.stop(None)


@pytest.fixture(scope="session")
async def shelf(shared_settings: Settings) -> AsyncIterator[Shelf]:
    shelf = await Shelf.open(shared_settings)
    yield shelf
    await shelf.close()


@pytest.fixture(scope="session")
async def desk(shared_settings: Settings, evaluations: tuple[Evaluations, str], shelf: Shelf) -> AsyncIterator[Desk]:
    servicer, address = evaluations
    settings = shared_settings.model_copy(update={"evaluator_address": address})
    async with (
        serve_in_process("registry", build, settings, NEEDS) as registry_address,
        grpc.aio.insecure_channel(registry_address) as channel,
        httpx.AsyncClient() as http,
    ):
        yield Desk(Registry(channel, http), servicer.tasks, shelf, registry_address)
