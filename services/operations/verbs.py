"""The methods of a service for one kind of operation, by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from services.operations.operations import Operations
from services.resources.batches import deleted
from services.resources.listing import ListQuery

__all__ = ["operation_verbs"]


def operation_verbs(
    noun: str,
    operations: Operations[Any],
    listed: type[Message],
    parent: Callable[[str], Awaitable[object]] | None = None,
) -> Mapping[str, Callable[..., Any]]:
    """Return Get, List, Watch, Cancel and Delete of a kind of operation; Create differs by kind.

    Args:
        noun: The message: `DatasetExport`.
        operations: What serves them.
        listed: Response of List: one page and `next_page_token`.
        parent: Reads the resource that they belong to by its name, if it is one, and raises LatheError NOT_FOUND.
    """
    (entries,) = [field.name for field in listed.DESCRIPTOR.fields if field.message_type is not None]

    async def page(request: Any, _context: Any) -> Any:
        if parent is not None and not request.parent.endswith("/-"):
            await parent(request.parent)
        answer: Any = listed()
        answer.next_page_token = await operations.page(ListQuery.from_request(request), getattr(answer, entries))
        return answer

    async def get(request: Any, _context: Any) -> Any:
        return await operations.get(request.name)

    async def watch(request: Any, _context: Any) -> AsyncIterator[Any]:
        async for operation in operations.watch(request.name):
            yield operation

    async def cancel(request: Any, _context: Any) -> Any:
        return await operations.cancel(request.name)

    async def delete(request: Any, _context: Any) -> Empty:
        return await deleted(operations.delete(request.name, request.etag), allow_missing=request.allow_missing)

    return {
        f"Get{noun}": get,
        f"List{noun}s": page,
        f"Watch{noun}": watch,
        f"Cancel{noun}": cancel,
        f"Delete{noun}": delete,
    }
