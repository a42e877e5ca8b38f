"""Logs and trace context."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.platform.logs import bind_task, configure_logs, log_call, scrub
from services.platform.settings import Settings
from services.platform.telemetry import TASK_ATTRIBUTE, begin_span, continue_trace, current_traceparent

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logs(Settings(log_format="json"), "toy", stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:], root.level = before


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_names_service_task_and_trace(stream: io.StringIO) -> None:
    log = structlog.get_logger()
    with continue_trace("work", TRACEPARENT), bind_task("conversionTasks/7"):
        log.info("inside")
    log.info("outside")
    inside, outside = lines(stream)
    assert (inside["service"], inside["task_id"]) == ("toy", "conversionTasks/7")
    assert inside["trace_id"] == TRACEPARENT.split("-")[1]
    assert "task_id" not in outside
    assert "trace_id" not in outside


@pytest.mark.parametrize("log_format", ["json", "console"])
@pytest.mark.parametrize("sent", [None, 2])
@pytest.mark.parametrize("user", ["ann", 'a "b" ☃', "https://u:hunter2@h"])
def test_the_line_of_a_call_is_what_the_processors_would_write(
    stream: io.StringIO, log_format: Any, sent: int | None, user: str
) -> None:
    configure_logs(Settings(log_format=log_format), "toy", stream)
    facts: dict[str, Any] = {} if sent is None else {"sent": sent}
    with continue_trace("call", TRACEPARENT):
        log_call("lathe.x.v1.S/Get", 1.5, user, TRACEPARENT.split("-")[1], sent)
        structlog.get_logger().info("lathe.x.v1.S/Get", code="OK", ms=1.5, user=user, **facts)
    written, processed = (re.sub(r"20\d\d-\S+Z", "now", line) for line in stream.getvalue().splitlines())
    if log_format == "json":
        assert json.loads(written) == json.loads(processed)
    else:
        assert sorted(written.split()) == sorted(processed.split())
    assert "hunter" not in written


def test_libraries_lines_look_the_same(stream: io.StringIO) -> None:
    logging.getLogger("nats").warning("lost %s", "nats://u:hunter2@h")
    (line,) = lines(stream)
    assert (line["logger"], line["level"], line["event"]) == ("nats", "warning", "lost nats://u:***@h")


def test_lower_levels_are_left_out(stream: io.StringIO) -> None:
    structlog.get_logger().debug("detail")
    assert not lines(stream)


def test_a_log_that_cannot_be_written_fails_nobody(stream: io.StringIO) -> None:
    stream.close()
    structlog.get_logger().info("lost")


@pytest.mark.parametrize("key", ["password", "s3_secret_key", "authorization", "service_token", "token", "secret"])
def test_secrets_are_replaced_by_their_key(key: str) -> None:
    assert scrub(None, "", {key: "hunter2"}) == {key: "***"}


def test_what_only_sounds_secret_stays() -> None:
    event: dict[str, Any] = {"tokens": "12", "secretary": "ann", "event": "x"}
    assert scrub(None, "", dict(event)) == event


def test_a_trace_goes_on() -> None:
    with continue_trace("work", TRACEPARENT):
        version, trace, span, _ = current_traceparent().split("-")
        assert (version, trace) == ("00", TRACEPARENT.split("-")[1])
        assert len(span) == 16
    assert current_traceparent() == ""


@given(st.text())
def test_any_other_text_begins_a_new_trace(text: str) -> None:
    with continue_trace("work", text):
        assert current_traceparent()


@pytest.mark.parametrize("text", [f"00-{'0' * 32}-b7ad6b7169203331-01", f"00-{'a' * 32}-{'0' * 16}-01"])
def test_an_identifier_of_zeros_is_none(text: str) -> None:
    with continue_trace("work", text):
        assert current_traceparent().split("-")[1] != text.split("-")[1]


def test_a_span_names_the_task_of_the_one_above_whatever_is_bound(exporter: InMemorySpanExporter) -> None:
    with bind_task("1"), continue_trace("of the first task", TRACEPARENT):
        above = begin_span("stage")
    with bind_task("2"):
        begin_span("step", above).end()
    above.end()
    tasks = {span.name: (span.attributes or {}).get(TASK_ATTRIBUTE) for span in exporter.get_finished_spans()}
    assert (tasks["step"], tasks["stage"]) == ("1", "1")
