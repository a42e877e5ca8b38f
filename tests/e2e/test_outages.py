"""Tasks that are created while a server is away: accepted and done later, or refused in words; never lost."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import psutil
import pytest
from lathe.converter.v1 import conversion_service_pb2 as converter
from lathe.type.v1 import task_pb2

from tests.e2e.calls import refusal_of
from tests.e2e.desk import Desk, wait_for

FROZEN_DEADLINE_SECONDS = 5.0


@contextmanager
def frozen(desk: Desk, server: str) -> Iterator[None]:
    """Stop a server and all its processes for a while: connections stay, nobody answers."""
    root = psutil.Process(desk.pid(server))
    family = [root, *root.children(recursive=True)]
    for process in family:
        process.suspend()
    try:
        yield
    finally:
        for process in family:
            process.resume()


def try_to_create(desk: Desk, request: converter.CreateConversionTaskRequest) -> converter.ConversionTask | None:
    """Create a task; None where it was refused, which must be for a reason that passes."""
    try:
        return desk.rpc.conversions.CreateConversionTask(request, timeout=FROZEN_DEADLINE_SECONDS)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return None
        refused = refusal_of(error)
        assert refused.code == "UNAVAILABLE", refused
        assert refused.message
        return None


@pytest.mark.parametrize("how", ["frozen", "killed"])
@pytest.mark.parametrize("server", ["nats", "s3"])
def test_a_task_created_while_a_server_is_away(desk: Desk, server: str, how: str) -> None:
    request = desk.request(desk.keyed, seed=hash((server, how)) % 1000, request_id=str(uuid.uuid4()))
    if how == "frozen":
        with frozen(desk, server):
            task = try_to_create(desk, request)
    else:
        before = desk.pid(server)
        os.kill(before, signal.SIGKILL)
        task = try_to_create(desk, request)
        wait_for(lambda: desk.pid(server) != before)
    wait_for(lambda: desk.suite.lathe("status", check=False).returncode == 0)
    # The same request again: the task of the first call where there is one, else a new one. There is one in the end.
    created = desk.rpc.conversions.CreateConversionTask(request)
    assert task is None or created.name == task.name
    ended = desk.finish(created)
    assert ended.status.state == task_pb2.SUCCEEDED, ended.status
    wait_for(desk.clean)
