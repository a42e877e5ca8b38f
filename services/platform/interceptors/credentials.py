"""The credentials of a stream, which lasts longer than they may: looked at again while it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc

from services.platform.errors import LatheError
from services.platform.identity import Proof, current_caller

__all__ = ["proven"]

LOOK_AGAIN_SECONDS = 3.0


@asynccontextmanager
async def proven(
    authenticate: Callable[[], Awaitable[object]], refuse: Callable[[LatheError], None]
) -> AsyncIterator[None]:
    """Refuse a stream of a user when the token that it began with has expired or is revoked.

    Args:
        authenticate: Finds out again who calls, or raises.
        refuse: Ends the stream with an error.
    """
    if current_caller().proof is not Proof.USER:
        yield
        return
    looking = asyncio.create_task(_look(authenticate, refuse))
    try:
        yield
    finally:
        looking.cancel()


async def _look(authenticate: Callable[[], Awaitable[object]], refuse: Callable[[LatheError], None]) -> None:
    while True:
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        try:
            await authenticate()
        except LatheError as error:
            # If the identity provider is away, nothing is known against the token.
            if error.code is grpc.StatusCode.UNAUTHENTICATED:
                refuse(error)
                return
