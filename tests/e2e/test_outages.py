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
from tests.e2e.desk import Desk
from tests.eventually import wait_for

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
    """Create a task; None if it was refused, which must be for a reason that passes."""
    try:
        return desk.rpc.conversions.CreateConversionTask(request, timeout=FROZEN_DEADLINE_SECONDS)
    except grpc.RpcError as error:
        if error.code() == grpc.StatusCode.DEADLINE_EXCEEDED:
            return None
        refused = refusal_of(error)
        assert refused.code == "UNAVAILABLE", refused
        assert refused.message
        return None


@pytest.mark.parametrize("server", ["nats", "s3"])
def test_a_task_created_while_a_server_does_not_answer(desk: Desk, server: str) -> None:
    request = desk.request(desk.keyed, seed=len(server), request_id=str(uuid.uuid4()))
    with frozen(desk, server):
        task = try_to_create(desk, request)
    assert_done(desk, request, task)


def test_a_task_created_while_servers_are_gone(desk: Desk) -> None:
    request = desk.request(desk.keyed, seed=99, request_id=str(uuid.uuid4()))
    before = {server: desk.pid(server) for server in ("nats", "s3")}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    task = try_to_create(desk, request)
    wait_for(lambda: all(desk.pid(server) != pid for server, pid in before.items()))
    assert_done(desk, request, task)


def assert_done(
    desk: Desk, request: converter.CreateConversionTaskRequest, task: converter.ConversionTask | None
) -> None:
    """Wait until all is well again; then there is one task, the first call's if that made one, and it is done."""
    wait_for(lambda: desk.suite.lathe("status", check=False).returncode == 0)
    # Asked again, as clients do: what passes may take some moments more to pass.
    created = wait_for(lambda: try_to_create(desk, request))
    assert created is not None
    assert task is None or created.name == task.name
    ended = desk.finish(created)
    assert ended.status.state == task_pb2.TASK_STATE_SUCCEEDED, ended.status
    wait_for(desk.clean)
