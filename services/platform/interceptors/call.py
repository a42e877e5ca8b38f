"""The life of one call: from its first count to its answer, whatever happens in between."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

import grpc

from services.platform import errors
from services.platform.interceptors import deadline
from services.platform.interceptors.deadline import Deadlines
from services.platform.interceptors.error_mapping import explain
from services.platform.interceptors.observation import Observation, ObservedMethod
from services.platform.interceptors.references import located
from services.platform.interceptors.traffic import Traffic, going_away

__all__ = ["Call", "EndedWell"]


class EndedWell(Exception):  # noqa: N818 - not an error
    """A stream has ended with the server, and its client is told that nothing went wrong."""


class Call:
    """One call: `async with` around the handler, in which every exception becomes an answer."""

    __slots__ = (
        "_context",
        "_deadlines",
        "_limit",
        "_method",
        "_observation",
        "_refusal",
        "_scope",
        "_streaming",
        "_traffic",
        "metadata",
        "request",
        "sent",
    )

    def __init__(
        self, traffic: Traffic, deadlines: Deadlines, method: ObservedMethod, streaming: bool, context: Any
    ) -> None:
        """Be a call of `method`, which `traffic` counts and `deadlines` limit.

        Args:
            traffic: What this process does at the moment.
            deadlines: How long calls may take.
            method: What is called.
            streaming: Whether it answers with a stream.
            context: gRPC's context of the call.
        """
        self.metadata: dict[str, str | bytes] = dict(context.invocation_metadata())
        self.sent, self.request = 0, None
        self._traffic = traffic
        self._deadlines = deadlines
        self._method = method
        self._streaming = streaming
        self._context = context
        self._refusal: errors.LatheError | None = None

    async def __aenter__(self) -> Call:
        self._observation = Observation(self._method, self.metadata)
        self._limit = self._deadlines.limit(self._context.time_remaining(), self._streaming)
        self._scope = deadline.start(0 if self._streaming and self._traffic.draining else self._limit)
        await self._scope.__aenter__()
        self._traffic.begin(self._scope, self._streaming)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._traffic.end(self._scope, self._streaming)
        try:
            await self._scope.__aexit__(kind, error, tb)
        except TimeoutError:
            if self._traffic.draining and self._method.ends_well:
                self._end(grpc.StatusCode.OK)
                raise EndedWell from None
            error = self._refusal or self._out_of_time()
        if isinstance(error, asyncio.CancelledError) and not _being_cancelled():
            # gRPC raises this if a killed sibling breaks off our call to it.
            error = errors.unavailable("lathe", "Another Lathe service went away during the call; try again shortly.")
        if error is None:
            self._end(self._context.code() or grpc.StatusCode.OK)
        elif (unsent := _is_unsent(error)) or isinstance(error, asyncio.CancelledError):
            # By the client, or by gRPC itself at the client's deadline. Nobody waits for an answer.
            late = self._context.time_remaining() == 0
            self._end(grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED)
            if unsent:
                await self._context.abort(grpc.StatusCode.CANCELLED, "The call had ended before all of it was sent.")
        elif isinstance(error, grpc.aio.AbortError):
            self._end(self._context.code())
        else:
            explanation = explain(error)
            told = located(explanation.error, self.request)
            self._end(told.code, told, explanation.cause)
            status = errors.to_status(told)
            await self._context.abort(told.code, status.message, errors.trailers(status))

    def _end(
        self, code: grpc.StatusCode, told: errors.LatheError | None = None, cause: BaseException | None = None
    ) -> None:
        self._observation.end(code, told, cause, self.sent if self._streaming else None)

    def refuse(self, error: errors.LatheError) -> None:
        """End the call with an error, from another task."""
        self._refusal = error
        self._scope.reschedule(asyncio.get_running_loop().time())

    def _out_of_time(self) -> errors.LatheError:
        if self._traffic.draining and self._streaming:
            return going_away()
        return deadline.exceeded(self._limit)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_unsent(error: BaseException) -> bool:
    """Return whether gRPC could not send, because the call has ended and nobody has told its handler yet."""
    return type(error).__name__ == "ExecuteBatchError"
