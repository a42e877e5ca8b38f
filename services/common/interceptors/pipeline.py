"""The one interceptor of a server: every step of a call in order, in one wrapper that is built once per method.

    observe → deadline → map errors → authenticate → decode → validate → handler

Five nested interceptors would cost five coroutines and five generators per call; this is one of each at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import Any

import grpc

from services.common import errors, identity
from services.common.interceptors import deadline, validation
from services.common.interceptors.deadline import Deadlines
from services.common.interceptors.error_mapping import explain
from services.common.interceptors.observation import Observation, ObservedMethod

# Probes come without credentials, and every few seconds.
_HEALTH = "/grpc.health.v1.Health/"
# What debugging tools call before each call of their own.
_REFLECTION = "/grpc.reflection."


class Pipeline(grpc.aio.ServerInterceptor):
    """Takes every call of a server through the steps."""

    def __init__(self, authenticator: identity.Authenticator, deadlines: Deadlines) -> None:
        self.authenticator = authenticator
        self.deadlines = deadlines
        self.draining = False
        self.streams: set[asyncio.Timeout] = set()
        self._handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Return the wrapped handler of the method; None for a method that does not exist, which gRPC answers."""
        name = handler_call_details.method
        wrapped = self._handlers.get(name)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._handlers[name] = _wrap(self, name, handler)
        return wrapped

    def drain(self) -> None:
        """End every stream now, with an answer that sends its client elsewhere; calls that are not streams go on."""
        self.draining = True
        now = asyncio.get_running_loop().time()
        for scope in self.streams:
            scope.reschedule(now)


class _Call:
    """One call: `async with` around the handler, in which every exception becomes an answer."""

    __slots__ = (
        "_context",
        "_limit",
        "_method",
        "_observation",
        "_pipeline",
        "_scope",
        "_streaming",
        "metadata",
        "sent",
    )

    def __init__(self, pipeline: Pipeline, method: ObservedMethod, streaming: bool, context: Any) -> None:
        self.metadata: dict[str, str | bytes] = dict(context.invocation_metadata())
        self.sent = 0
        self._pipeline = pipeline
        self._method = method
        self._streaming = streaming
        self._context = context

    async def __aenter__(self) -> _Call:
        self._observation = Observation(self._method, self.metadata)
        self._limit = self._pipeline.deadlines.limit(self._context.time_remaining(), self._streaming)
        self._scope = deadline.start(self._limit)
        await self._scope.__aenter__()
        if self._streaming:
            self._pipeline.streams.add(self._scope)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._pipeline.streams.discard(self._scope)
        try:
            await self._scope.__aexit__(kind, error, tb)
        except TimeoutError:
            error = self._out_of_time()
        if isinstance(error, asyncio.CancelledError) and not _being_cancelled():
            # gRPC raises this where a sibling that is killed breaks off our call to it.
            error = errors.unavailable("lathe", "Another Lathe service went away during the call; try again shortly.")
        if error is None:
            self._end(self._context.code() or grpc.StatusCode.OK)
        elif isinstance(error, asyncio.CancelledError):
            # By the client, or by gRPC itself at the client's deadline. Nobody waits for an answer.
            late = self._context.time_remaining() == 0
            self._end(grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED)
        elif isinstance(error, grpc.aio.AbortError):
            self._end(self._context.code())
        else:
            explanation = explain(error)
            told = explanation.error
            self._end(told.code, told, explanation.cause)
            status = errors.to_status(told)
            await self._context.abort(told.code, status.message, errors.trailers(status))

    def _end(
        self, code: grpc.StatusCode, told: errors.LatheError | None = None, cause: BaseException | None = None
    ) -> None:
        self._observation.end(code, told, cause, self.sent if self._streaming else None)

    def _out_of_time(self) -> errors.LatheError:
        if self._pipeline.draining and self._streaming:
            message = "This server is being stopped; call again and another one, or the next, goes on from there."
            return errors.unavailable("lathe", message)
        return deadline.exceeded(self._limit)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _wrap(pipeline: Pipeline, name: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    method = ObservedMethod(name, quiet=name.startswith((_HEALTH, _REFLECTION)))
    admit = _admission(pipeline, name, handler)
    if handler.response_streaming:
        return _wrap_stream(pipeline, method, handler, admit)
    behavior: Any = handler.unary_unary or handler.stream_unary

    async def call(raw: Any, context: Any) -> Any:
        async with _Call(pipeline, method, False, context) as each:
            return await behavior(admit(raw, each.metadata), context)

    build = grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
    return build(call, None, handler.response_serializer)


def _wrap_stream(
    pipeline: Pipeline, method: ObservedMethod, handler: grpc.RpcMethodHandler[Any, Any], admit: Callable[..., Any]
) -> grpc.RpcMethodHandler[Any, Any]:
    behavior: Any = handler.unary_stream or handler.stream_stream

    async def call(raw: Any, context: Any) -> None:
        async with _Call(pipeline, method, True, context) as each:
            responses = behavior(admit(raw, each.metadata), context)
            if not hasattr(responses, "__aiter__"):
                await responses  # it writes to the context itself, as gRPC's health service does
                return
            async with aclosing(responses):
                async for response in responses:
                    await context.write(response)
                    each.sent += 1

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)
    return grpc.unary_stream_rpc_method_handler(call, None, handler.response_serializer)


def _admission(pipeline: Pipeline, name: str, handler: grpc.RpcMethodHandler[Any, Any]) -> Callable[..., Any]:
    """Return what turns raw bytes and metadata into a request that the handler may see."""
    authenticates = not name.startswith(_HEALTH)
    parse, streams = handler.request_deserializer, handler.request_streaming

    def admit(raw: Any, metadata: dict[str, str | bytes]) -> Any:
        if authenticates:
            identity.become(pipeline.authenticator.authenticate(metadata))
        if streams:
            return raw  # an iterator of requests that gRPC has parsed
        request = validation.decode(parse, raw)
        validation.check(request)
        return request

    return admit
