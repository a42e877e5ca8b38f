"""Metadata of calls between services: the user, the trace, and the time that is left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc

from services.platform.identity import TOKEN_KEY, USER_KEY, current_caller, told_of
from services.platform.interceptors import deadline
from services.platform.telemetry import TRACEPARENT_KEY, current_traceparent


class _Forwarding:
    def __init__(self, service_token: str, default_deadline: float) -> None:
        self._authorization = f"Bearer {service_token}" if service_token else ""
        self._default_deadline = default_deadline

    def details(self, details: grpc.aio.ClientCallDetails, streaming: bool) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(*(details.metadata or ()))
        if not metadata.get_all(USER_KEY):
            for key, value in told_of(current_caller()):
                metadata[key] = value
        if self._authorization:
            metadata[TOKEN_KEY] = self._authorization
        traceparent = current_traceparent()
        if traceparent:
            metadata[TRACEPARENT_KEY] = traceparent
        timeout = self._timeout(details.timeout, streaming)
        return grpc.aio.ClientCallDetails(
            details.method, timeout, metadata, details.credentials, details.wait_for_ready
        )

    def _timeout(self, asked: float | None, streaming: bool) -> float | None:
        if asked is None and not streaming:
            asked = self._default_deadline
        left = deadline.remaining()
        if left is None or asked is None:
            return asked if left is None else left
        return min(asked, left)


class _UnaryForwarding(_Forwarding, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Callable[..., Awaitable[Any]], client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(self.details(client_call_details, streaming=False), request)


class _StreamForwarding(_Forwarding, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Callable[..., Awaitable[Any]], client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(self.details(client_call_details, streaming=True), request)


def forwarding(service_token: str, default_deadline: float) -> Sequence[grpc.aio.ClientInterceptor]:
    """Return the interceptors of a channel to a sibling service.

    Args:
        service_token: Secret with which services call each other; empty in an installation without authentication.
        default_deadline: Seconds for a call that neither has a deadline nor runs within one.
    """
    return [_UnaryForwarding(service_token, default_deadline), _StreamForwarding(service_token, default_deadline)]
