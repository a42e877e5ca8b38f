"""One span, one measurement and one line of the log for every call."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import grpc
import structlog
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, format_trace_id
from prometheus_client import Counter, Histogram

from services.platform.errors import LatheError
from services.platform.identity import current_user
from services.platform.logs import log_call
from services.platform.telemetry import TRACEPARENT_KEY, start_span

SECONDS = Histogram(
    "lathe_grpc_server_seconds",
    "Time that calls took.",
    ["method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
CALLS = Counter("lathe_grpc_server_calls", "Calls by method and code.", ["method", "code"])

_OURS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
_log: Any = structlog.get_logger("lathe.calls")


class ObservedMethod:
    """What is counted about one method.

    Args:
        name: Its path.
        quiet: Its calls stay out of the log, as those of probes.
        ends_well: Its streams are OK if they end because the server stops.
    """

    def __init__(self, name: str, quiet: bool, ends_well: bool = False) -> None:
        self.name = name.removeprefix("/")
        self.quiet = quiet
        self.ends_well = ends_well
        self._seconds = SECONDS.labels(self.name)
        self._calls: dict[grpc.StatusCode, Counter] = {}

    def count(self, code: grpc.StatusCode, seconds: float) -> None:
        """Count one call that has ended."""
        self._seconds.observe(seconds)
        counter = self._calls.get(code)
        if counter is None:
            counter = self._calls[code] = CALLS.labels(self.name, code.name)
        counter.inc()


class Observation:
    """One call, from its first byte to its status."""

    __slots__ = ("_method", "_span", "_started")

    def __init__(self, method: ObservedMethod, metadata: Mapping[str, str | bytes]) -> None:
        self._method = method
        self._started = time.perf_counter()
        self._span: Span = start_span(method.name, str(metadata.get(TRACEPARENT_KEY, "")), SpanKind.SERVER)

    def end(
        self,
        code: grpc.StatusCode,
        error: LatheError | None = None,
        cause: BaseException | None = None,
        sent: int | None = None,
    ) -> None:
        """End it.

        Args:
            code: Its status.
            error: The answer, if it is not OK.
            cause: What only the log may show.
            sent: How many messages a stream sent.
        """
        seconds = time.perf_counter() - self._started
        self._method.count(code, seconds)
        if self._span.is_recording():
            self._end_span(code, error, cause)
        if self._method.quiet and cause is None:
            return
        if code is grpc.StatusCode.OK and cause is None:
            trace_id = format_trace_id(self._span.get_span_context().trace_id)
            log_call(self._method.name, round(seconds * 1000, 2), current_user(), trace_id, sent)
            return
        facts: dict[str, Any] = {"code": code.name, "ms": round(seconds * 1000, 2), "user": current_user()}
        if sent is not None:
            facts["sent"] = sent
        if error is not None:
            facts.update(reason=error.reason, message=error.message, **error.metadata)
        if code in _OURS:
            _log.error(self._method.name, exc_info=cause, **facts)
        elif cause is not None:
            # A server that is down fails every call in the same way: its words say enough, without a traceback each.
            _log.warning(self._method.name, cause=f"{type(cause).__name__}: {cause}", **facts)
        else:
            _log.info(self._method.name, **facts)

    def _end_span(self, code: grpc.StatusCode, error: LatheError | None, cause: BaseException | None) -> None:
        self._span.set_attribute("rpc.system", "grpc")
        self._span.set_attribute("rpc.grpc.status_code", code.value[0])
        self._span.set_attribute("enduser.id", current_user())
        if error is not None:
            self._span.set_attribute("lathe.reason", error.reason)
        if cause is not None:
            self._span.record_exception(cause)
        if code in _OURS:
            self._span.set_status(Status(StatusCode.ERROR, error.message if error else code.name))
        self._span.end()
