"""Logs: one line per event, structured, with the trace and the task it belongs to, and without secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
from contextvars import ContextVar, Token
from datetime import UTC, datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, TextIO

import structlog
from opentelemetry import trace

from services.platform.settings import Settings, without_passwords

_task_id: ContextVar[str] = ContextVar("task_id", default="")
# Whole words: `tokens` may count something, `page_token` is no secret, but useless in a log.
_SECRET_KEY = re.compile(r"(^|_)(password|secret|token|authorization|credentials?|secret_key|access_key)$")

_calls: Any = structlog.get_logger("lathe.calls")
_call_lines: _CallLines | None = None


class bind_task:  # noqa: N801 - reads as a verb in use
    """Put `task_id` on every log line that follows; used as `with bind_task(id):`, only within the block."""

    def __init__(self, task_id: str) -> None:
        self._token: Token[str] = _task_id.set(task_id)

    def __enter__(self) -> None:
        """Enter the block; the task is bound already."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Unbind the task."""
        _task_id.reset(self._token)


def bound_task() -> str:
    """Return the id that is bound; empty outside of any block."""
    return _task_id.get()


def configure_logs(settings: Settings, service: str, stream: TextIO | None = None) -> None:
    """Send the logs of this process, the libraries' included, to `stream` (standard error) in the chosen format."""
    cached = stream is None
    stream = stream or sys.stderr
    as_json = settings.log_format == "json"
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        _Service(service),
        _add_context,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        scrub,
    ]
    if as_json:
        # An encoder of our own: `json.dumps` would make one for every line.
        encode = json.JSONEncoder(ensure_ascii=False, default=str).encode
        renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(lambda event, **_: encode(event))
    else:
        renderer = structlog.dev.ConsoleRenderer(
            colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, pad_event_to=0
        )
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_LinesFactory(stream),
        # Only if the configuration is final.
        cache_logger_on_first_use=cached,
    )
    global _call_lines  # noqa: PLW0603 - as structlog's configuration, one per process
    plain = level <= logging.INFO and (as_json or not stream.isatty())
    _call_lines = _CallLines(stream, service, as_json=as_json) if plain else None
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=max(level, logging.WARNING), handlers=[handler], force=True)


def log_call(event: str, ms: float, user: str, trace_id: str, sent: int | None) -> None:
    """Log a call that went well: its method, time, caller, and how many messages a stream sent.

    Such lines are by far the most frequent. Written out, one costs a quarter of what the processors take for it.
    """
    if _call_lines is not None:
        _call_lines.write(event, ms, user, trace_id, sent)
        return
    facts = {} if sent is None else {"sent": sent}
    _calls.info(event, code="OK", ms=ms, user=user, **facts)


def scrub(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Replace what is secret by its name, and passwords in URLs by `***`."""
    for key, value in event.items():
        if isinstance(value, str):
            if _is_secret(key):
                event[key] = "***"
            elif "://" in value:
                event[key] = without_passwords(value)
    return event


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET_KEY.search(key) is not None


class _Lines:
    """Writes lines. One that cannot be written is lost, as with the standard library: it must not fail a call."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = msg


class _CallLines:
    """Writes what the processors would make of a call's line."""

    def __init__(self, stream: TextIO, service: str, *, as_json: bool) -> None:
        self._lines = _Lines(stream)
        self._service = service
        self._as_json = as_json
        self._user = lru_cache(maxsize=1024)(self._shown)

    def write(self, event: str, ms: float, user: str, trace_id: str, sent: int | None) -> None:
        now = datetime.now(UTC).isoformat()[:-6] + "Z"
        user = self._user(user)
        if self._as_json:
            more = "" if sent is None else f', "sent": {sent}'
            self._lines.msg(
                f'{{"code": "OK", "ms": {ms}, "user": {user}{more}, "event": "{event}", "service": "{self._service}", '
                f'"trace_id": "{trace_id}", "level": "info", "timestamp": "{now}"}}'
            )
        else:
            more = "" if sent is None else f" sent={sent}"
            where = f"service={self._service} trace_id={trace_id}"
            self._lines.msg(f"{now} [info     ] {event} code=OK ms={ms}{more} {where} user={user}")

    def _shown(self, user: str) -> str:
        user = without_passwords(user)
        if self._as_json:
            return json.dumps(user, ensure_ascii=False)
        return user if user.isprintable() and not set(user) & set(" =\"'") else repr(user)


class _LinesFactory:
    def __init__(self, stream: TextIO) -> None:
        self._lines = _Lines(stream)

    def __call__(self, *_: Any) -> _Lines:
        return self._lines


class _Service:
    """Names the service on every line."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, _logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = self._name
        return event


def _add_context(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    context = trace.get_current_span().get_span_context()
    if context.trace_id:
        event.setdefault("trace_id", trace.format_trace_id(context.trace_id))
    task_id = _task_id.get()
    if task_id:
        event.setdefault("task_id", task_id)
    return event
