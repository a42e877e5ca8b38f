"""What every call carries, and what its errors become."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import grpc

from lathe_client.errors import LatheError

DEADLINE_SECONDS = 60.0
"""Deadline of a unary call that sets none. Streams have none."""
PAUSES = (0.5, 1.0, 2.0)
"""Seconds before each retry of a call."""
RECONNECT_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0)
"""Seconds before each attempt to resume a stream."""
_CREATING = ("Create", "Derive", "Import")


class _Details(NamedTuple):
    """The details of a call with our metadata, since gRPC's own class cannot be constructed."""

    method: str
    timeout: float | None
    metadata: list[tuple[str, str]]
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class Caller(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds the caller's metadata and a deadline to calls, and raises `LatheError` for what a service refuses.

    Args:
        metadata: Sent with every call.
        project: For what is created and states no project; empty leaves that to the services.
    """

    def __init__(self, metadata: Sequence[tuple[str, str]], project: str = "") -> None:
        self._metadata = list(metadata)
        self._project = project

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """Make a unary call."""
        timeout = details.timeout if details.timeout is not None else DEADLINE_SECONDS
        if self._project and details.method.rpartition("/")[2].startswith(_CREATING):
            request = _placed(request, self._project)
        call = continuation(self._details(details, timeout), request)
        if isinstance(call, grpc.RpcError) and call.done() and call.exception() is not None:  # type: ignore[attr-defined]
            raise LatheError(call)
        return call

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """Open a stream."""
        return _stream(continuation(self._details(details, details.timeout), request))

    def _details(self, details: Any, timeout: float | None) -> _Details:
        metadata = [*(details.metadata or ()), *self._metadata]
        return _Details(
            details.method, timeout, metadata, details.credentials, details.wait_for_ready, details.compression
        )


def _placed(request: Any, project: str) -> Any:
    """Return a copy of a request, in which it, or the resource in it, states its project."""
    placed = type(request)()
    placed.CopyFrom(request)
    resources = [value for field, value in placed.ListFields() if field.message_type and hasattr(value, "DESCRIPTOR")]
    for each in (placed, *resources):
        if "project" in each.DESCRIPTOR.fields_by_name and not each.project:
            each.project = project
    return placed


def _stream(call: Any) -> Iterator[Any]:
    try:
        yield from call
    except grpc.RpcError as error:
        raise LatheError(error) from None
    finally:
        call.cancel()


def resumed(method: Callable[[Any], Iterable[Any]], request: Any, advance: Callable[[Any], None]) -> Iterator[Any]:
    """Yield the messages of a stream, and open it again if its server goes away.

    Args:
        method: Sends the request and returns the stream.
        request: Of the stream.
        advance: Makes the request continue after a message.
    """
    pauses = iter(RECONNECT_PAUSES)
    while True:
        try:
            for message in method(request):
                advance(message)
                pauses = iter(RECONNECT_PAUSES)
                yield message
            return
        except grpc.RpcError as error:
            pause = next(pauses, None)
            if error.code() != grpc.StatusCode.UNAVAILABLE or pause is None:
                raise
            time.sleep(pause)


def repeated(method: Callable[[Any], Any], request: Any) -> Any:
    """Return the answer to a request that may be sent twice: it only reads, or has a `request_id`."""
    again = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    for pause in PAUSES:
        try:
            return method(request)
        except grpc.RpcError as error:
            if error.code() not in again:
                raise
        time.sleep(pause)
    return method(request)
