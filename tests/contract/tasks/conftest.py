"""The task engine behind the real interceptors, on the converter's contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from lathe.converter.v1 import conversion_service_pb2_grpc as rpc

from services.platform.settings import Settings
from services.process.composition import Platform
from services.process.server import ServiceParts
from services.tasks.api.servicer import TaskServicer
from tests.contract.tasks.calls import Served
from tests.in_process import serve_in_process
from tests.integration.tasks.kit import open_site


@pytest.fixture
async def served(echo_database_url: str, fresh_nats_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    settings = Settings(database_url=echo_database_url, nats_url=fresh_nats_url, data_dir=tmp_path)
    async with open_site(settings, tmp_path) as site:

        async def build(_: Platform) -> ServiceParts:
            servicer = TaskServicer(site.kind, site.engine.handlers, site.engine.streams, site.engine.groups)
            return ServiceParts(servicer.register, [site.kind.service])

        async with (
            serve_in_process("echo", build, settings, ()) as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            yield site, rpc.ConversionServiceStub(channel)
