"""One span, one measurement and one log line for each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from lathe.converter.v1.conversion_service_pb2 import WatchConversionTaskRequest
from lathe.registry.v1.architecture_service_pb2 import Architecture
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import REGISTRY

from services.platform import errors, telemetry
from tests.eventually import eventually

from .conftest import Client, refused

Lines = Callable[[], list[dict[str, Any]]]
METHOD = "lathe.registry.v1.ArchitectureService/GetArchitecture"
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def counted(code: str) -> float:
    return REGISTRY.get_sample_value("lathe_grpc_server_calls_total", {"method": METHOD, "code": code}) or 0


async def test_a_call_is_one_line(client: Client, log_lines: Lines) -> None:
    await client.get(metadata=[("x-lathe-user", "ann"), ("traceparent", TRACEPARENT)])
    (line,) = [line for line in log_lines() if line["event"] == METHOD]
    assert line["code"] == "OK"
    assert line["user"] == "ann"
    assert line["trace_id"] == TRACE
    assert line["service"] == "toy"
    assert line["ms"] >= 0


def called(log_lines: Lines) -> dict[str, Any]:
    """Return the last line of a call: what runs in the background has lines, too."""
    return [line for line in log_lines() if "code" in line][-1]


async def test_a_refused_call_says_why_in_its_line(client: Client, log_lines: Lines) -> None:
    client.raises(errors.failed_precondition("STILL_REFERRED_TO", "A task refers to it."))
    await refused(client.get())
    line = called(log_lines)
    assert (line["level"], line["code"], line["reason"]) == ("info", "FAILED_PRECONDITION", "STILL_REFERRED_TO")


async def test_a_stream_counts_what_it_sent(client: Client, log_lines: Lines) -> None:
    async for _ in client.conversions.WatchConversionTask(WatchConversionTaskRequest(name="conversionTasks/x")):
        pass
    await client.get()
    assert [line["sent"] for line in log_lines() if "sent" in line] == [2]


async def test_what_cannot_be_sent_because_the_client_is_gone_is_no_fault(client: Client, log_lines: Lines) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        async for _ in client.conversions.WatchConversionTask(
            WatchConversionTaskRequest(name="conversionTasks/unsent")
        ):
            pass
    assert await eventually(lambda: [line["code"] for line in log_lines() if "sent" in line]) == ["CANCELLED"]
    assert not [line for line in log_lines() if line["level"] == "error"]


async def test_credentials_are_never_logged(client: Client, log_lines: Lines) -> None:
    client.raises(RuntimeError("postgresql://lathe:hunter2@db/lathe"))
    await refused(client.get(metadata=[("authorization", "Bearer hunter3")]))
    text = repr(log_lines())
    assert "hunter" not in text


async def test_calls_are_counted_by_method_and_code(client: Client) -> None:
    ok, missing = counted("OK"), counted("NOT_FOUND")
    await client.get()
    client.raises(errors.not_found("model", "models/x"))
    await refused(client.get())
    assert (counted("OK"), counted("NOT_FOUND")) == (ok + 1, missing + 1)
    assert REGISTRY.get_sample_value("lathe_grpc_server_seconds_count", {"method": METHOD})


async def test_without_a_trace_a_new_one_begins(client: Client, log_lines: Lines) -> None:
    await client.get()
    await client.get(metadata=[("traceparent", "nonsense")])
    first, second = [line["trace_id"] for line in log_lines() if line["event"] == METHOD]
    assert first != second


def calls_in(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    """Return the spans of calls of the toy: services that other tests keep in this process have spans, too."""
    return [span for span in exporter.get_finished_spans() if span.name == METHOD]


async def test_a_call_is_a_span_of_its_callers_trace(client: Client, exporter: InMemorySpanExporter) -> None:
    inside: list[str] = []

    async def look(_context: Any) -> Any:
        inside.append(telemetry.current_traceparent())
        return Architecture()

    client.toy.behavior = look
    exporter.clear()
    await client.get(metadata=[("traceparent", TRACEPARENT)])
    (span,) = calls_in(exporter)
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == "b7ad6b7169203331"
    assert inside == [f"00-{TRACE}-{span.context.span_id:016x}-01"]


async def test_a_failure_of_ours_is_an_error_in_the_trace(client: Client, exporter: InMemorySpanExporter) -> None:
    client.raises(KeyError("x"))
    exporter.clear()
    await refused(client.get())
    (span,) = calls_in(exporter)
    assert not span.status.is_ok
    assert span.attributes is not None
    assert span.attributes["rpc.grpc.status_code"] == grpc.StatusCode.INTERNAL.value[0]
    assert span.events[0].name == "exception"
