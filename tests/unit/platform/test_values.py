from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from lathe.converter.v1.conversion_service_pb2 import ConversionSpec, ConversionTask, CreateConversionTaskRequest
from lathe.type.v1.task_pb2 import Attempt

from services.platform.interceptors.values import meaningless_values


@pytest.mark.parametrize(
    ("message", "path"),
    [
        (ConversionSpec(timeout=Duration(seconds=1, nanos=2147483647)), "timeout"),
        (ConversionSpec(timeout=Duration(seconds=1, nanos=-1)), "timeout"),
        (
            CreateConversionTaskRequest(task=ConversionTask(spec=ConversionSpec(timeout=Duration(nanos=10**9)))),
            "task.spec.timeout",
        ),
        (ConversionTask(create_time=Timestamp(nanos=-1)), "create_time"),
        (ConversionTask(attempts=[Attempt(), Attempt(end_time=Timestamp(seconds=1 << 60))]), "attempts[1].end_time"),
    ],
)
def test_a_time_that_is_none_is_named(message: Any, path: str) -> None:
    ((where, wrong),) = meaningless_values(message)
    assert where == path
    assert "range" in wrong or "valid" in wrong


def test_times_that_are_right_pass() -> None:
    spec = ConversionSpec(timeout=Duration(seconds=60, nanos=500))
    assert not list(meaningless_values(ConversionTask(spec=spec, create_time=Timestamp(seconds=1))))
