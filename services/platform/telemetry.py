"""Traces, metrics and logs of a process.

Trace context is W3C `traceparent` everywhere: gRPC metadata, messages on the bus. Spans are recorded and exported
only if `otlp_endpoint` is set; otherwise only the identifiers are kept, for the logs and for the services called next.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags

from services.platform.logs import bind_task, bound_task, configure_logs
from services.platform.settings import ConfigurationError, Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = ["bind_task", "configure", "continue_trace", "current_traceparent", "export_spans", "start_span"]

TRACEPARENT_KEY = "traceparent"
TASK_ATTRIBUTE = "lathe.task_id"
"""Attribute of spans: the id of the task that they work on."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_tracer = trace.get_tracer("lathe")
_FLUSH_MILLISECONDS = 2000
# Identifiers must be unlike each other, not unguessable.
_random = random.Random()  # noqa: S311


def configure(settings: Settings, service: str) -> None:
    """Set up logs and, if configured, metrics over HTTP and the export of spans. Called once per process.

    Raises:
        ConfigurationError: The port of the metrics is taken.
    """
    configure_logs(settings, service)
    if settings.metrics_port:
        from prometheus_client import disable_created_metrics, start_http_server

        # They would add to each counter a series with the time at which it began.
        disable_created_metrics()  # type: ignore[no-untyped-call] # the package leaves its types out
        try:
            start_http_server(settings.metrics_port, addr=settings.bind_host)
        except OSError as error:
            where = f"{settings.bind_host}:{settings.metrics_port}"
            raise ConfigurationError(f"LATHE_METRICS_PORT: {where} cannot be listened on: {error.strerror}.") from error
    if settings.otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        insecure = not settings.otlp_endpoint.startswith("https://")
        exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, insecure=insecure)
        export_spans(exporter, service, BatchSpanProcessor)


def export_spans(exporter: SpanExporter, service: str, processor: type | None = None) -> None:
    """Record spans from now on and hand them to `exporter`, at once unless another processor is given."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"lathe-{service}"}))
    provider.add_span_processor(_task_namer())
    provider.add_span_processor((processor or SimpleSpanProcessor)(exporter))
    trace.set_tracer_provider(provider)


def _task_namer() -> SpanProcessor:
    """Return what writes the id of a task on every span: that of the span above, else that of the task that is bound.

    The bound one alone would not do: what a child reports is heard in the context in which the child was started, which
    may be that of the task before.
    """
    from opentelemetry.sdk.trace import SpanProcessor

    class TaskNamer(SpanProcessor):
        def on_start(self, span: Any, parent_context: otel.Context | None = None) -> None:
            above = getattr(trace.get_current_span(parent_context), "attributes", None) or {}
            if task_id := above.get(TASK_ATTRIBUTE) or bound_task():
                span.set_attribute(TASK_ATTRIBUTE, task_id)

    return TaskNamer()


def flush() -> None:
    """Export the remaining spans, before the process ends at once."""
    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        flush(_FLUSH_MILLISECONDS)


def start_span(name: str, traceparent: str, kind: SpanKind = SpanKind.INTERNAL) -> Span:
    """Start a span as the child of `traceparent` (a new trace if it is empty or malformed) and make it the current one.

    It stays current for the rest of the calling task; the caller ends it.
    """
    parent = _parse(traceparent)
    context = trace.set_span_in_context(NonRecordingSpan(parent)) if parent is not None else otel.Context()
    span = _tracer.start_span(name, context=context, kind=kind)
    if not span.get_span_context().is_valid:
        span = NonRecordingSpan(SpanContext(_random.getrandbits(128), _random.getrandbits(64), is_remote=False))
    otel.attach(trace.set_span_in_context(span, otel.Context()))
    return span


@contextmanager
def continue_trace(name: str, traceparent: str) -> Iterator[Span]:
    """Run a block as a span of the trace that `traceparent` names: what a consumer does with a message."""
    before = otel.get_current()
    span = start_span(name, traceparent, SpanKind.CONSUMER)
    try:
        yield span
    except Exception as error:
        span.record_exception(error)
        raise
    finally:
        span.end()
        otel.attach(before)


def begin_span(name: str, parent: Span | None = None) -> Span:
    """Begin a span within `parent`, or the current one, and do not make it the current one; the caller ends it."""
    return _tracer.start_span(name, context=None if parent is None else trace.set_span_in_context(parent))


def name_task(task_id: str) -> None:
    """Write a task's id on the current span: that of the call that created the task."""
    trace.get_current_span().set_attribute(TASK_ATTRIBUTE, task_id)


def current_traceparent() -> str:
    """Return the current trace context for a message or a call; empty outside of any."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"


def _parse(traceparent: str) -> SpanContext | None:
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    if match is None:
        return None
    context = SpanContext(int(match[1], 16), int(match[2], 16), True, TraceFlags(int(match[3], 16)))
    return context if context.is_valid else None
