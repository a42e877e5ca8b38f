"""The W3C trace context in message envelopes: a task's trace goes on from the call to the worker and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()


def current_traceparent() -> str:
    """Return the `traceparent` of the current span; empty outside any."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


@contextmanager
def traced(traceparent: str, **bound: str) -> Iterator[None]:
    """Go on with the trace of an envelope; log lines inside carry its trace_id and what is `bound`."""
    parent = _PROPAGATOR.extract({"traceparent": traceparent} if traceparent else {})
    token = context.attach(parent)
    span = trace.get_current_span(parent).get_span_context()
    if span.is_valid:
        bound["trace_id"] = trace.format_trace_id(span.trace_id)
    try:
        with structlog.contextvars.bound_contextvars(**bound):
            yield
    finally:
        context.detach(token)
