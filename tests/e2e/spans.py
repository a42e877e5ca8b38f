"""A receiver of OTLP, of the few lines that it takes: it keeps the spans that a suite exports."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as otlp
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as stubs


@dataclass(frozen=True)
class Span:
    """A span as it came.

    Attributes:
        service: Which process sent it: `lathe-registry`.
        name: What was done.
        trace: Identifier of its trace.
        id: Its own identifier.
        parent: That of the span above; empty for the first one of a trace.
        task: The task that it names; empty if it names none.
    """

    service: str
    name: str
    trace: str
    id: str
    parent: str
    task: str


@dataclass
class Receiver:
    """What has come so far."""

    url: str = ""
    spans: list[Span] = field(default_factory=list)
    keep: bool = False
    kept: bytearray = field(default_factory=bytearray)
    """All bytes that came, if it keeps them."""

    def of_task(self, uid: str) -> dict[str, Span]:
        """Return the spans of the traces in which a task is named, by their names."""
        traces = {span.trace for span in self.spans if span.task == uid}
        return {span.name: span for span in list(self.spans) if span.trace in traces}


_Service: Any = stubs.TraceServiceServicer


class _Servicer(_Service):  # type: ignore[misc]  # the stubs of OTLP have no types
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, _context: Any) -> Any:  # noqa: N802
        if self._receiver.keep:
            self._receiver.kept += request.SerializeToString()
        for resource in request.resource_spans:
            service = {each.key: each.value.string_value for each in resource.resource.attributes}["service.name"]
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                facts = {each.key: each.value.string_value for each in span.attributes}
                ids = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
                self._receiver.spans.append(Span(service, span.name, *ids, facts.get("lathe.task_id", "")))
        return otlp.ExportTraceServiceResponse()


@contextmanager
def receiving(*, keep: bool = False) -> Iterator[Receiver]:
    """Receive on a free port."""
    receiver, server = Receiver(keep=keep), grpc.server(ThreadPoolExecutor(2))
    add_to_server: Any = stubs.add_TraceServiceServicer_to_server
    add_to_server(_Servicer(receiver), server)
    receiver.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield receiver
    server.stop(0)
