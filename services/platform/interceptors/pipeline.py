"""The one interceptor of a server: every step of a call in order, in one wrapper that is built once per method.

    observe → deadline → map errors → admit → authenticate → find the caller's roles → decode → clear output-only
    → validate → resolve aliases → audit → handler → pack

Five nested interceptors would cost five coroutines and five generators per call; this is one of each at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from types import TracebackType
from typing import Any, Protocol

import grpc

from services.platform import errors, identity
from services.platform.access import Grants
from services.platform.authentication import Authenticator
from services.platform.interceptors import access, aliases, answering, credentials, deadline, validation
from services.platform.interceptors.behavior import clear_output_only
from services.platform.interceptors.deadline import Deadlines
from services.platform.interceptors.error_mapping import explain
from services.platform.interceptors.observation import Observation, ObservedMethod
from services.platform.interceptors.references import located
from services.platform.interceptors.traffic import Traffic

# Probes come without credentials, and every few seconds.
_HEALTH = "/grpc.health.v1.Health/"
# What debugging tools call before each call of their own.
_REFLECTION = "/grpc.reflection."
# What services say to each other.
_INTERNAL = "/lathe.internal."
# KEDA has no credentials for it. It is told counts alone, and network policies keep it inside the cluster.
_SCALER = "/externalscaler."


Behavior = Callable[[Any, Any], Awaitable[Any]]
"""A unary handler: of a request and its context."""


class Auditor(Protocol):
    """Keeps the audit log."""

    def around(self, method: str, behavior: Behavior) -> Behavior:
        """Return the handler of a method, so wrapped that what it changes, or is refused, is noted."""
        ...

    async def turned_away(self, method: str, request: Any, peer: str, error: errors.LatheError) -> None:
        """Note that a caller may not call a method at all."""
        ...


class Pipeline(grpc.aio.ServerInterceptor):
    """Takes every call of a server through the steps."""

    def __init__(
        self,
        authenticator: Authenticator,
        grants: Grants,
        deadlines: Deadlines,
        look_up: aliases.LookUp,
        traffic: Traffic,
        *,
        auditor: Auditor | None = None,
    ) -> None:
        self.authenticator = authenticator
        self.grants = grants
        self.deadlines = deadlines
        self.look_up = look_up
        self.auditor = auditor
        self.draining = False
        self._streams: set[asyncio.Timeout] = set()
        self._calls = 0
        self.traffic = traffic
        self._idle = asyncio.Event()
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

    def begin(self, scope: asyncio.Timeout, streaming: bool) -> None:
        """Count a call in; `scope` ends it."""
        if streaming:
            self._streams.add(scope)
        else:
            self._calls += 1

    def end(self, scope: asyncio.Timeout, streaming: bool) -> None:
        """Count a call out."""
        if streaming:
            self._streams.discard(scope)
        else:
            self._calls -= 1
        if not self._calls and not self._streams:
            self._idle.set()

    def require_room(self) -> None:
        """Raise LatheError if this process takes no further call at the moment."""
        if self.draining:
            raise _going_away()
        self.traffic.require_room(self._calls, len(self._streams))

    async def drain(self, seconds: float) -> None:
        """Send clients elsewhere: end every stream, refuse new calls, and wait up to `seconds` for those in flight."""
        self.draining = True
        for scope in self._streams:
            scope.reschedule(asyncio.get_running_loop().time())
        if self._calls or self._streams:
            self._idle.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._idle.wait()


class _EndedWell(Exception):  # noqa: N818 - not an error
    """A stream has ended with the server, and its client is told that nothing went wrong."""


class _Call:
    """One call: `async with` around the handler, in which every exception becomes an answer."""

    __slots__ = (
        "_context",
        "_limit",
        "_method",
        "_observation",
        "_pipeline",
        "_refusal",
        "_scope",
        "_streaming",
        "metadata",
        "request",
        "sent",
    )

    def __init__(self, pipeline: Pipeline, method: ObservedMethod, streaming: bool, context: Any) -> None:
        self.metadata: dict[str, str | bytes] = dict(context.invocation_metadata())
        self.sent, self.request = 0, None
        self._pipeline = pipeline
        self._method = method
        self._streaming = streaming
        self._context = context
        self._refusal: errors.LatheError | None = None

    async def __aenter__(self) -> _Call:
        self._observation = Observation(self._method, self.metadata)
        self._limit = self._pipeline.deadlines.limit(self._context.time_remaining(), self._streaming)
        self._scope = deadline.start(0 if self._streaming and self._pipeline.draining else self._limit)
        await self._scope.__aenter__()
        self._pipeline.begin(self._scope, self._streaming)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._pipeline.end(self._scope, self._streaming)
        try:
            await self._scope.__aexit__(kind, error, tb)
        except TimeoutError:
            if self._pipeline.draining and self._method.ends_well:
                self._end(grpc.StatusCode.OK)
                raise _EndedWell from None
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
        if self._pipeline.draining and self._streaming:
            return _going_away()
        return deadline.exceeded(self._limit)


def _going_away() -> errors.LatheError:
    message = "This server is stopping. Call again: another replica, or the next one here, will answer."
    return errors.unavailable("lathe", message)


def _being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_unsent(error: BaseException) -> bool:
    """Return whether gRPC could not send, because the call has ended and nobody has told its handler yet."""
    return type(error).__name__ == "ExecuteBatchError"


def _wrap(pipeline: Pipeline, name: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    # KEDA calls again at once after a stream that ended well, and waits longer after each that failed.
    ends_well = name.startswith(_SCALER) and handler.response_streaming
    method = ObservedMethod(name, quiet=name.startswith((_HEALTH, _REFLECTION, _SCALER)), ends_well=ends_well)
    admit = _admission(pipeline, name, handler)
    if handler.response_streaming:
        return _wrap_stream(pipeline, method, handler, admit)
    unary: Any = handler.unary_unary or handler.stream_unary
    behavior = unary if pipeline.auditor is None else pipeline.auditor.around(name, unary)
    pack = answering.packer(handler.response_serializer)

    async def call(raw: Any, context: Any) -> Any:
        async with _Call(pipeline, method, False, context) as each:
            each.request = request = await admit(raw, each.metadata, context)
            if not handler.request_streaming and (found := aliases.aliases_in(request, raw)):
                await aliases.resolve(request, found, pipeline.look_up)
            return pack(await behavior(request, context), context)

    build = grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
    return build(call, None, None)


def _wrap_stream(
    pipeline: Pipeline,
    method: ObservedMethod,
    handler: grpc.RpcMethodHandler[Any, Any],
    admit: Callable[..., Awaitable[Any]],
) -> grpc.RpcMethodHandler[Any, Any]:
    behavior: Any = handler.unary_stream or handler.stream_stream
    pack, serialize = (
        answering.packer(handler.response_serializer),
        answering.unless_packed(handler.response_serializer),
    )

    async def call(raw: Any, context: Any) -> None:
        with suppress(_EndedWell):
            await answer(raw, context)

    async def answer(raw: Any, context: Any) -> None:
        async with _Call(pipeline, method, True, context) as each:
            each.request = request = await admit(raw, each.metadata, context)
            if not handler.request_streaming and (found := aliases.aliases_in(request, raw)):
                await aliases.resolve(request, found, pipeline.look_up)
            responses = behavior(request, context)
            if not hasattr(responses, "__aiter__"):
                await responses  # it writes to the context itself, as gRPC's health service does
                return
            again = partial(pipeline.authenticator.authenticate, each.metadata, context)
            async with aclosing(responses), credentials.proven(again, each.refuse), access.renewed(pipeline.grants):
                async for response in responses:
                    await context.write(pack(response, context))
                    each.sent += 1

    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(call, handler.request_deserializer, serialize)
    return grpc.unary_stream_rpc_method_handler(call, None, serialize)


def _admission(
    pipeline: Pipeline, name: str, handler: grpc.RpcMethodHandler[Any, Any]
) -> Callable[..., Awaitable[Any]]:
    """Return what turns raw bytes and metadata into a request that the handler may see."""
    of_health, internal, of_scaler = (name.startswith(each) for each in (_HEALTH, _INTERNAL, _SCALER))
    parse, streams = handler.request_deserializer, handler.request_streaming
    needed = access.declared(name)

    async def admit(raw: Any, metadata: dict[str, str | bytes], context: Any) -> Any:
        if not of_health:
            pipeline.require_room()
            if not of_scaler:
                caller = await pipeline.authenticator.authenticate(metadata, context)
                identity.become(caller)
                pipeline.traffic.take(caller)
            if internal:
                identity.require_service()
            if needed:
                try:
                    await access.permit(needed, pipeline.grants)
                except errors.LatheError as error:
                    if pipeline.auditor is not None and not streams:
                        await pipeline.auditor.turned_away(name, validation.decode(parse, raw), context.peer(), error)
                    raise
        if streams:
            return raw  # an iterator of requests that gRPC has parsed
        request = validation.decode(parse, raw)
        clear_output_only(request)
        validation.check(request)
        return request

    return admit
