"""Calls for many resources at once, and deletions of what may be gone already."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import grpc
from google.protobuf.empty_pb2 import Empty
from lathe.type.v1.batch_pb2 import BatchError
from lathe.type.v1.error_reason_pb2 import ErrorReason

from services.audit.entries import current_call
from services.platform.errors import LatheError, from_rpc_error
from services.platform.words import number, words

__all__ = ["deleted", "in_batch"]


async def in_batch(
    names: Sequence[str],
    act: Callable[[str], Awaitable[object]],
    *,
    allow_missing: bool = False,
    at_once: int = 1,
) -> tuple[list[str], list[BatchError]]:
    """Do something for each name, whatever becomes of the others.

    Args:
        names: Of the resources; a repeated one counts once.
        act: Does it for one, or raises LatheError or AioRpcError.
        allow_missing: A resource that does not exist counts as done.
        at_once: How many are worked on at the same time; one after the other, in their order, if 1.

    Returns:
        Those that it was done for, and why not for the others, both in the order of `names`.
    """
    slots = asyncio.Semaphore(at_once)

    async def one(name: str) -> BatchError | None:
        async with slots:
            try:
                await deleted(act(name), allow_missing=allow_missing)
            except (LatheError, grpc.aio.AioRpcError) as error:
                told = error if isinstance(error, LatheError) else from_rpc_error(error)
                if (call := current_call()) is not None:
                    call.refusals.append((name, told))
                return _told(name, told)
        return None

    distinct = list(dict.fromkeys(names))
    ends = dict(zip(distinct, await asyncio.gather(*map(one, distinct)), strict=True))
    return [name for name, error in ends.items() if error is None], [error for error in ends.values() if error]


async def deleted(deletion: Awaitable[object], *, allow_missing: bool) -> Empty:
    """Await the deletion of a resource; with `allow_missing`, that there is none is no error."""
    try:
        await deletion
    except LatheError as error:
        if not allow_missing or error.code is not grpc.StatusCode.NOT_FOUND:
            raise
    return Empty()


def _told(name: str, error: LatheError) -> BatchError:
    reason = number(ErrorReason, error.reason if error.reason in words(ErrorReason) else "UNSPECIFIED")
    return BatchError(name=name, code=error.code.name, reason=reason, message=error.message)
