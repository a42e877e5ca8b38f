"""What every server does for its audit log: it notes the calls that were refused, and forgets what is old."""

from __future__ import annotations

import asyncio
import re
import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import structlog
from google.protobuf.message import Message

from services.audit.entries import INSERT, Call, become, refused_row
from services.database.pool import Database
from services.platform.errors import LatheError
from services.platform.identity import current_caller
from services.platform.interceptors.error_mapping import explain
from services.platform.telemetry import current_traceparent

__all__ = ["Recorder", "changes_something"]

Behavior = Callable[[Any, Any], Awaitable[Any]]
_PUBLIC = re.compile(r"/?lathe\.(?!internal\.)")
_READS = re.compile(r"(BatchGet|Check|Describe|Diff|Get|List|Preview|Read|Resolve|Select|Stream|Watch|WhoAmI)([A-Z]|$)")
# What says nothing of the caller's rights or the state of a resource.
_UNTOLD = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}
_DATABASE_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)
_FORGET = "DELETE FROM audit WHERE uid IN (SELECT uid FROM audit WHERE uid < $1 ORDER BY uid LIMIT 5000)"
_FORGET_SECONDS = 3600.0
_log: Any = structlog.get_logger("lathe.audit")


def changes_something(method: str) -> bool:
    """Return whether a method, such as `/lathe.registry.v1.ModelService/CreateModel`, is there to change something."""
    return "lathe." in method and _READS.match(method.rpartition("/")[2]) is None


class Recorder:
    """Keeps the audit log of one process. `kept_days` is how long an entry stays; 0 is for ever."""

    def __init__(self, database: Database, kept_days: int) -> None:
        self._database = database
        self._kept_days = kept_days

    def around(self, method: str, behavior: Behavior) -> Behavior:
        """Return the handler of a method, so wrapped that what it changes is noted, and that it was refused."""
        if not changes_something(method):
            return behavior
        name, public = method.removeprefix("/"), _PUBLIC.match(method) is not None

        async def noted(request: Any, context: Any) -> Any:
            call = _call_of(name, request, context.peer() or "")
            become(call)
            try:
                answer = await behavior(request, context)
            except Exception as error:
                if public:
                    await self._refused(call, explain(error).error)
                raise
            if call.refusals:
                await self._write([refused_row(call, refused, error) for refused, error in call.refusals])
            elif public and not call.noted and not getattr(request, "validate_only", False):
                await self._write([refused_row(call, call.target, None, call.project)])
            return answer

        return noted

    async def turned_away(self, method: str, request: Message, peer: str, error: LatheError) -> None:
        """Note that a caller may not call a method at all."""
        if changes_something(method):
            await self._refused(_call_of(method.removeprefix("/"), request, peer), error)

    async def run(self) -> None:
        """Forget what is old, until cancelled."""
        while self._kept_days:
            await self.forget(datetime.now(UTC) - timedelta(days=self._kept_days))
            await asyncio.sleep(_FORGET_SECONDS)

    async def forget(self, before: datetime) -> None:
        """Delete the entries that are older than a time, of at least 30 days ago."""
        first = UUID(int=int(before.timestamp() * 1000) << 80)
        while await self._database.execute(_FORGET, first) != "DELETE 0":
            pass

    async def _refused(self, call: Call, error: LatheError) -> None:
        if error.code not in _UNTOLD and error.reason != "OVERLOADED":
            await self._write([refused_row(call, call.target, error, call.project)])

    async def _write(self, rows: Sequence[tuple[Any, ...]]) -> None:
        try:
            await self._database.executemany(INSERT, rows)
        except _DATABASE_AWAY as error:  # the caller gets the answer in any case
            _log.error("a refused call is not in the audit log", method=rows[0][4], error=repr(error))


def _call_of(method: str, request: Any, peer: str) -> Call:
    return Call(
        method=method,
        caller=current_caller(),
        peer=urllib.parse.unquote(peer),
        request_id=getattr(request, "request_id", ""),
        trace_id=current_traceparent()[3:35],
        target=_target_of(request),
    )


def _target_of(request: Any) -> str:
    """Return the resource that a request names: itself, the one to change, or the one under which to create."""
    for name in ("name", "parent"):
        if found := getattr(request, name, ""):
            return str(found)
    for descriptor, value in request.ListFields():
        if descriptor.message_type is not None and not descriptor.is_repeated and (found := getattr(value, "name", "")):
            return str(found)
    return ""
