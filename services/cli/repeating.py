"""Calls that can be repeated: where a server goes away, they are sent again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

PAUSES = (0.5, 1.0, 2.0)
"""Seconds before each further try."""


def repeated(method: Callable[[Any], Any], request: Any) -> Any:
    """Return the answer to a request that does nothing twice: it only reads, or carries a `request_id`."""
    import grpc

    for pause in PAUSES:
        try:
            return method(request)
        except grpc.RpcError as failure:
            if failure.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
                raise
        time.sleep(pause)
    return method(request)
