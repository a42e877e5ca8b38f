from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from lathe.registry.v1 import model_service_pb2
from lathe_client.connection import Connection

from services.cli.client import connect, find_addresses
from services.cli.options import set_options
from services.local.endpoints import Endpoint, write_endpoints
from services.local.roster import SERVICES


class Recorder(grpc.GenericRpcHandler):
    """Answers every call with an empty message, and records its metadata."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.seconds_left: float | None = None

    def service(self, details: grpc.HandlerCallDetails) -> Any:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.metadata = dict(context.invocation_metadata() or ())
            self.seconds_left = context.time_remaining()
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def address(recorder: Recorder) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    server.add_generic_rpc_handlers([recorder])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0)


def test_every_call_names_its_caller_and_has_a_deadline(recorder: Recorder, address: str) -> None:
    with Connection({"registry": address}, token="t0k", user="ada") as connection:
        connection.models.GetModel(model_service_pb2.GetModelRequest(), metadata=(("x-more", "1"),))
    assert recorder.metadata["x-lathe-user"] == "ada"
    assert recorder.metadata["authorization"] == "Bearer t0k"
    assert recorder.metadata["x-more"] == "1"
    assert recorder.seconds_left is not None
    assert recorder.seconds_left < 61


def test_without_a_token_none_is_sent(recorder: Recorder, address: str) -> None:
    with Connection({"registry": address}, user="ada") as connection:
        connection.models.GetModel(model_service_pb2.GetModelRequest(), timeout=50)
    assert "authorization" not in recorder.metadata
    assert recorder.seconds_left is not None
    assert recorder.seconds_left < 51


def test_addresses_come_from_options_then_environment_then_the_running_stack_then_defaults(tmp_path: Path) -> None:
    usual = {entry.name: f"127.0.0.1:{entry.port}" for entry in SERVICES}
    assert usual["registry"] == "127.0.0.1:50051"
    assert find_addresses({}, {}, tmp_path) == usual
    parts = [Endpoint(name, "service", f"127.0.0.1:{port}", 1) for name, port in (("registry", 1), ("template", 2))]
    write_endpoints(tmp_path, 1, [*parts, Endpoint("nats", "server", "127.0.0.1:3", 1)])
    environment = {"LATHE_TEMPLATE_ADDRESS": "host:20", "LATHE_CONVERTER_ADDRESS": "host:30"}
    assert find_addresses({"converter": "flag:300"}, environment, tmp_path) == {
        **usual,
        "registry": "127.0.0.1:1",
        "template": "host:20",
        "converter": "flag:300",
    }


def test_a_command_connects_by_its_options_and_the_environment(
    recorder: Recorder, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER", "grace")
    monkeypatch.setenv("LATHE_TOKEN", "secret")
    set_options(tmp_path, [f"registry={address}"])
    with connect() as connection:
        connection.models.GetModel(model_service_pb2.GetModelRequest())
    assert recorder.metadata["x-lathe-user"] == "grace"
    assert recorder.metadata["authorization"] == "Bearer secret"
