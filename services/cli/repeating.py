"""Repeats calls and resumes streams if a server goes away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

PAUSES = (0.5, 1.0, 2.0)
"""Seconds before each retry."""
RECONNECT_PAUSES = (0.2, 0.5, 1, 2, 5, 5, 5)
"""Seconds before each attempt to resume a stream."""


def resumed(method: Callable[[Any], Iterable[Any]], request: Any, advance: Callable[[Any], None]) -> Iterator[Any]:
    """Yield the messages of a stream, and resume it if it breaks off.

    Args:
        method: Sends the request and returns the stream.
        request: Of the stream.
        advance: Makes the request continue after a message.
    """
    import grpc

    pauses = iter(RECONNECT_PAUSES)
    while True:
        try:
            for message in method(request):
                advance(message)
                pauses = iter(RECONNECT_PAUSES)
                yield message
            return
        except grpc.RpcError as failure:
            pause = next(pauses, None)
            if failure.code() != grpc.StatusCode.UNAVAILABLE or pause is None:
                raise
            time.sleep(pause)


def repeated(method: Callable[[Any], Any], request: Any) -> Any:
    """Return the response to an idempotent request, which only reads or has a `request_id`."""
    import grpc

    for pause in PAUSES:
        try:
            return method(request)
        except grpc.RpcError as failure:
            if failure.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise
        time.sleep(pause)
    return method(request)
