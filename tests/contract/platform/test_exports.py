"""What a process tells the systems that watch it: spans over OTLP, metrics over HTTP."""

from __future__ import annotations

import signal
from typing import Any

import grpc
import httpx
from lathe.registry.v1.architecture_service_pb2_grpc import ArchitectureServiceStub
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from services.local.ports import free_port

from .conftest import GET
from .test_process import ended, line_with, start

METHOD = "lathe.registry.v1.ArchitectureService/GetArchitecture"
_Collecting: Any = TraceServiceServicer


class Collector(_Collecting):  # type: ignore[misc]  # the stubs of OTLP have no types
    """Takes spans as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, str]] = []

    async def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802
        for resource in request.resource_spans:
            service = {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"]
            self.spans += [(service, span.name) for scope in resource.scope_spans for span in scope.spans]
        return otlp.ExportTraceServiceResponse()


async def call(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        await ArchitectureServiceStub(channel).GetArchitecture(GET)


async def test_spans_reach_the_collector_before_the_process_ends() -> None:
    collector, server = Collector(), grpc.aio.server()
    add_to_server: Any = add_TraceServiceServicer_to_server
    add_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    process = await start(LATHE_OTLP_ENDPOINT=f"http://127.0.0.1:{port}")
    await call((await line_with(process, "ready")).split("address=")[1].split()[0])
    process.send_signal(signal.SIGTERM)
    assert (await ended(process))[0] == 0
    assert ("lathe-toy", METHOD) in collector.spans
    await server.stop(0)


async def test_metrics_are_read_over_http() -> None:
    port = free_port()
    process = await start(LATHE_METRICS_PORT=str(port))
    await call((await line_with(process, "ready")).split("address=")[1].split()[0])
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    assert f'lathe_grpc_server_calls_total{{code="OK",method="{METHOD}"}} 1.0' in text
    assert "lathe_grpc_server_seconds_bucket" in text
    process.send_signal(signal.SIGTERM)
    assert (await ended(process))[0] == 0
