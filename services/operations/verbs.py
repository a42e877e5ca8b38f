"""The methods of a service for one kind of operation, by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from google.protobuf.empty_pb2 import Empty

from services.operations.operations import Operations

__all__ = ["operation_verbs"]


def operation_verbs(noun: str, operations: Operations[Any]) -> Mapping[str, Callable[..., Any]]:
    """Return Get, Watch, Cancel and Delete of a kind of operation, whose message is `noun`; others differ by kind."""

    async def get(request: Any, _context: Any) -> Any:
        return await operations.get(request.name)

    async def watch(request: Any, _context: Any) -> AsyncIterator[Any]:
        async for operation in operations.watch(request.name):
            yield operation

    async def cancel(request: Any, _context: Any) -> Any:
        return await operations.cancel(request.name)

    async def delete(request: Any, _context: Any) -> Empty:
        await operations.delete(request.name, request.etag)
        return Empty()

    return {f"Get{noun}": get, f"Watch{noun}": watch, f"Cancel{noun}": cancel, f"Delete{noun}": delete}
