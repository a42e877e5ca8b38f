"""Metadata and deadlines of all calls of the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import grpc

_DEFAULT_DEADLINE_SECONDS = 60.0


class _Details(NamedTuple):
    """The details of a call with our metadata, since gRPC's own class cannot be constructed."""

    method: str
    timeout: float | None
    metadata: list[tuple[str, str | bytes]]
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class CallerIdentity(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """Adds the caller's metadata to every call, and a deadline to calls that are not streams."""

    def __init__(self, metadata: Sequence[tuple[str, str]]) -> None:
        self._metadata = list(metadata)

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """Call with the caller's metadata and a deadline."""
        timeout = details.timeout if details.timeout is not None else _DEFAULT_DEADLINE_SECONDS
        return continuation(self._with_metadata(details, timeout), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """Call with the caller's metadata."""
        return continuation(self._with_metadata(details, details.timeout), request)

    def _with_metadata(self, details: Any, timeout: float | None) -> Any:
        metadata = [*(details.metadata or ()), *self._metadata]
        return _Details(
            details.method, timeout, metadata, details.credentials, details.wait_for_ready, details.compression
        )
