"""Overrides as large as a request may be: what no path names is dropped, what cannot be told is refused."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from lathe.converter.v1.conversion_service_pb2 import (
    GetConversionTaskRequest,
    ListConversionTasksRequest,
)

from services.platform.errors import from_rpc_error
from tests.contract.requests import request_of, right
from tests.contract.suite import Suite


def wide(suite: Suite, *paths: str) -> Any:
    """Return a request of nearly 4 MiB."""
    request: Any = request_of("CreateConversionTask", right("CreateConversionTask", suite.made))
    overrides = request.task.spec.overrides
    overrides.values.taxonomies.add(task="wide", classes=[f"class {number:09}" for number in range(232_900)])
    overrides.values.runtime = "openvino"
    overrides.paths.extend(paths)
    return request


async def test_values_that_no_path_names_are_dropped(suite: Suite) -> None:
    made = await suite.call("CreateConversionTask", wide(suite, "runtime"))
    assert made["resolved"]["template"]["runtime"] == "openvino"
    assert made["spec"]["overrides"] == {"values": {"runtime": "openvino"}, "paths": ["runtime"]}
    found = await suite.call("GetConversionTask", GetConversionTaskRequest(name=made["name"]))
    assert found["spec"] == made["spec"]
    listed = await suite.call("ListConversionTasks", ListConversionTasksRequest(page_size=1000))
    assert made["name"] in {task["name"] for task in listed["tasks"]}


async def test_values_that_are_too_large_are_refused(suite: Suite) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await suite.call("CreateConversionTask", wide(suite, "taxonomies"))
    error = from_rpc_error(caught.value)
    assert error.code is grpc.StatusCode.INVALID_ARGUMENT
    assert error.fields[0][0].startswith("overrides")
