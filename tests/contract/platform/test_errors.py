"""What a client sees, and what the log keeps, when a handler fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import grpc
import minio.error
import nats.errors
import pytest
import urllib3
from lathe.converter.v1.conversion_service_pb2 import WatchConversionTaskRequest

from services.bus.connection import BusUnavailableError
from services.platform import errors
from services.platform.errors import LatheError
from tests.eventually import eventually

from .conftest import Client, refused

Lines = Callable[[], list[dict[str, Any]]]

_POOL = urllib3.connectionpool.HTTPConnectionPool("s3.internal", 9000)
_SLOW_DOWN = urllib3.HTTPResponse(status=503)

EACH_KIND: list[LatheError] = [
    errors.invalid_argument("spec.template", "names no template", reason="UNKNOWN_TEMPLATE"),
    errors.not_found("model", "models/x"),
    errors.already_exists("model", "models/x"),
    errors.failed_precondition("STILL_REFERRED_TO", "A task refers to it; delete that first.", "models/x"),
    errors.aborted("ETAG_MISMATCH", "It changed since you read it; read it again."),
    errors.unavailable("NATS", "NATS does not answer."),
    errors.permission_denied("Only its owner may delete it."),
    errors.unauthenticated("A token is needed."),
    errors.resource_exhausted("TOO_LARGE", "At most 1 GiB.", retry_after=2.5),
]


@pytest.mark.parametrize("error", EACH_KIND, ids=lambda error: error.reason)
async def test_an_error_arrives_with_all_its_details(client: Client, error: LatheError) -> None:
    client.raises(error)
    seen = await refused(client.get())
    assert (seen.code, seen.reason, seen.message) == (error.code, error.reason, error.message)
    assert (seen.fields, seen.resource, seen.preconditions) == (error.fields, error.resource, error.preconditions)
    assert (seen.metadata, seen.retry_after) == (error.metadata, error.retry_after)


async def test_an_unknown_error_hides_its_text_and_is_found_in_the_log_by_its_id(
    client: Client, log_lines: Lines
) -> None:
    client.raises(KeyError("the password is hunter2"))
    seen = await refused(client.get())
    assert seen.code is grpc.StatusCode.INTERNAL
    assert "hunter2" not in seen.message
    assert seen.metadata["error_id"] in seen.message
    line = next(line for line in log_lines() if line.get("error_id") == seen.metadata["error_id"])
    assert line["level"] == "error"
    assert "Traceback" in line["exception"]
    assert "KeyError" in line["exception"]


async def test_an_error_in_the_middle_of_a_stream_ends_it_with_its_status(client: Client) -> None:
    stream = client.conversions.WatchConversionTask(WatchConversionTaskRequest(name="conversionTasks/broken"))
    await stream.read()
    error = await refused(stream.read())
    assert error.code is grpc.StatusCode.INTERNAL
    assert "internal detail" not in error.message


@pytest.mark.parametrize(
    ("error", "server"),
    [
        (asyncpg.ConnectionDoesNotExistError("gone"), "PostgreSQL"),
        (asyncpg.AdminShutdownError("terminating connection"), "PostgreSQL"),
        (asyncpg.InterfaceError("pool is closing"), "PostgreSQL"),
        (nats.errors.NoServersError(), "NATS"),
        (nats.errors.TimeoutError(), "NATS"),
        (BusUnavailableError("NATS does not answer; x was not published."), "NATS"),
        (urllib3.exceptions.MaxRetryError(_POOL, "http://s3.internal:9000/"), "the object store"),
        (minio.error.S3Error(_SLOW_DOWN, "SlowDown", "Reduce your request rate", "/b/k", "1", "2"), "the object store"),
        (minio.error.ServerError("server failed with HTTP status code 503", 503), "the object store"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_a_server_that_is_away_is_unavailable_in_a_plain_sentence(
    client: Client, error: Exception, server: str
) -> None:
    client.raises(error)
    seen = await refused(client.get())
    assert seen.code is grpc.StatusCode.UNAVAILABLE
    assert seen.message.lower().startswith(server.lower())
    assert "try again" in seen.message
    assert seen.metadata == {"server": server}
    assert seen.retry_after


async def test_a_refused_connection_is_told_by_whose_code_was_running(client: Client) -> None:
    async def behavior(_context: Any) -> None:
        await asyncpg.connect("postgresql://u@127.0.0.1:1/db")

    client.toy.behavior = behavior
    seen = await refused(client.get())
    assert seen.code is grpc.StatusCode.UNAVAILABLE
    assert seen.metadata == {"server": "PostgreSQL"}


async def test_a_lost_race_in_the_database_is_aborted(client: Client) -> None:
    client.raises(asyncpg.SerializationError("could not serialize"))
    assert (await refused(client.get())).code is grpc.StatusCode.ABORTED


async def test_a_query_that_is_wrong_is_our_mistake(client: Client) -> None:
    client.raises(asyncpg.PostgresSyntaxError("syntax error"))
    assert (await refused(client.get())).code is grpc.StatusCode.INTERNAL


async def test_an_answer_inside_a_task_group_is_the_answer(client: Client) -> None:
    client.raises(ExceptionGroup("group", [KeyError("x"), errors.not_found("model", "models/x")]))
    assert (await refused(client.get())).code is grpc.StatusCode.NOT_FOUND


async def test_a_handler_may_abort_by_itself(client: Client, log_lines: Lines) -> None:
    async def behavior(context: Any) -> None:
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, "by hand")

    client.toy.behavior = behavior
    seen = await refused(client.get())
    assert (seen.code, seen.message) == (grpc.StatusCode.OUT_OF_RANGE, "by hand")
    assert [line["code"] for line in await called(log_lines)] == ["OUT_OF_RANGE"]


async def test_a_method_that_does_not_exist_is_unimplemented(client: Client) -> None:
    call: Any = client.channel.unary_unary("/lathe.registry.v1.ArchitectureService/Nothing")
    assert (await refused(call(b""))).code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_cancelled_call_reaches_its_handler_and_the_log(client: Client, log_lines: Lines) -> None:
    started = asyncio.Event()

    async def behavior(_context: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    client.toy.behavior = behavior
    call = asyncio.create_task(client.get())
    await started.wait()
    call.cancel()
    await client.toy.cancelled.wait()
    assert [line["code"] for line in await called(log_lines)] == ["CANCELLED"]


async def called(log_lines: Lines) -> list[dict[str, Any]]:
    """Return the lines of calls once there is one: it is written after the handler has ended, or has sent a status."""
    return await eventually(lambda: [line for line in log_lines() if "code" in line])
