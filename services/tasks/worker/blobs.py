"""The object store, as a worker uses it: some seconds of patience, and failures in words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol, TypeVar

from lathe.type.v1.digest_pb2 import Digest

from engines.failures import EngineFailure, FailureReason

STORE_TRIES = 6
STORE_RETRY_SECONDS = 0.5

T = TypeVar("T")


class Blobs(Protocol):
    """The content store, as a worker uses it."""

    async def put_file(self, path: Path) -> Digest:
        """Store a file."""

    async def put_bytes(self, data: bytes) -> Digest:
        """Store bytes."""

    async def fetch(self, digest: Digest, path: Path) -> None:
        """Write a blob to a file, verified."""

    async def read(self, digest: Digest) -> bytes:
        """Return a blob, verified."""


async def patiently(action: Callable[[], Awaitable[T]], what: str) -> T:
    """Try an action on the object store for some seconds, which outlasts a restart.

    Raises:
        EngineFailure: INPUT_UNAVAILABLE if the store does not have `what`; INFRASTRUCTURE if it does not answer.
    """
    for attempt in range(1, STORE_TRIES + 1):
        try:
            return await action()
        except (asyncio.CancelledError, EngineFailure):
            raise
        except Exception as error:
            if _is_gone(error):
                raise EngineFailure(
                    FailureReason.INPUT_UNAVAILABLE,
                    f"The object store does not have {what}.",
                    evidence=str(error)[:500],
                    suggested_fix="Upload the file again, then resubmit the task.",
                ) from error
            if attempt == STORE_TRIES:
                raise EngineFailure(
                    FailureReason.INFRASTRUCTURE,
                    f"The object store did not answer for {what}.",
                    evidence=f"{type(error).__name__}: {error}"[:500],
                    suggested_fix="See whether the object store is up.",
                    retryable=True,
                ) from error
            await asyncio.sleep(STORE_RETRY_SECONDS * attempt)
    raise AssertionError("unreachable")


def _is_gone(error: Exception) -> bool:
    code = getattr(getattr(error, "code", None), "name", "")
    return isinstance(error, FileNotFoundError | KeyError) or code in {"NOT_FOUND", "DATA_LOSS"}
