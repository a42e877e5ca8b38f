"""Deadlines of calls: the client's, or a default, and never more than the maximum.

A stream is meant to last, and ends when its client asks or when there is nothing more to send.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass

import grpc

from services.platform.errors import LatheError

_ends_at: ContextVar[float | None] = ContextVar("call_ends_at", default=None)


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The deadline policy of a server, in seconds."""

    default: float
    maximum: float

    def limit(self, asked: float | None, streaming: bool) -> float | None:
        """Return the seconds that a call may take; None for a stream without a deadline of its client."""
        if streaming:
            return asked
        return min(self.default if asked is None else asked, self.maximum)


def start(limit: float | None) -> asyncio.Timeout:
    """Start the clock of the call that this task serves; return a function that stops it."""
    ends_at = None if limit is None else asyncio.get_running_loop().time() + limit
    _ends_at.set(ends_at)
    return asyncio.timeout_at(ends_at)


def remaining() -> float | None:
    """Return the seconds that are left of the call that this code runs for; None outside of any call that ends."""
    ends_at = _ends_at.get()
    return None if ends_at is None else max(0.0, ends_at - asyncio.get_running_loop().time())


def exceeded(limit: float | None) -> LatheError:
    """Return the error for a call that took longer than `limit` seconds."""
    message = f"The call was given up after {limit or 0:g} s. What it began may be done; read before you repeat it."
    return LatheError(grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", message)
