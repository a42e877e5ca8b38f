"""Requests to the task engine, and what it answers."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from lathe.converter.v1 import conversion_service_pb2 as pb

from services.platform.errors import LatheError, from_rpc_error
from tests.integration.tasks.kit import Site

Served = tuple[Site, Any]


def create(template: str = "ok", **fields: Any) -> pb.CreateConversionTaskRequest:
    spec = pb.ConversionSpec(
        model_version="models/m/versions/1", template=f"templates/{template}", seed=fields.pop("seed", 0)
    )
    task = pb.ConversionTask(spec=spec, display_name=fields.pop("display_name", ""), labels=fields.pop("labels", {}))
    return pb.CreateConversionTaskRequest(task=task, **fields)


async def refused(call: Any) -> LatheError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)
