"""The one interceptor of a server: every step of a call in order, in one wrapper that is built once per method.

    observe → deadline → map errors → admit → authenticate → find the caller's roles → decode → clear output-only
    → validate → resolve aliases → audit → handler → pack

Five nested interceptors would cost five coroutines and five generators per call; this is one of each at most.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, Protocol

import grpc

from services.platform import errors, identity
from services.platform.access import Grants, count_no_more
from services.platform.authentication import Authenticator
from services.platform.interceptors import access, aliases, answering, credentials, validation
from services.platform.interceptors.behavior import clear_output_only
from services.platform.interceptors.call import Call, EndedWell
from services.platform.interceptors.deadline import Deadlines
from services.platform.interceptors.observation import ObservedMethod
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
        self.traffic = traffic
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
        async with Call(pipeline.traffic, pipeline.deadlines, method, False, context) as each:
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
        with suppress(EndedWell):
            await answer(raw, context)

    async def answer(raw: Any, context: Any) -> None:
        async with Call(pipeline.traffic, pipeline.deadlines, method, True, context) as each:
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
                    count_no_more()

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
            pipeline.traffic.require_room()
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
