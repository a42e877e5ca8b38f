"""From an exception in a handler to the error that the caller gets."""

from __future__ import annotations

import asyncio
import errno
import socket
import traceback
import uuid
from dataclasses import dataclass

import grpc

from services.platform.errors import LatheError, aborted, from_rpc_error, invalid_argument, unavailable

# By the module that raises or that is on the stack, so that a process need not import the drivers it does not use.
_SERVERS = {
    "asyncpg": "PostgreSQL",
    "nats": "NATS",
    "services.bus": "NATS",
    "minio": "the object store",
    "urllib3": "the object store",
    "services.storage": "the object store",
}
# Base classes that mean "no answer", whatever the subclass says.
_NO_ANSWER = {
    "asyncpg.exceptions.PostgresConnectionError",
    "asyncpg.exceptions.CannotConnectNowError",
    "asyncpg.exceptions.TooManyConnectionsError",
    "asyncpg.exceptions.OperatorInterventionError",  # an administrator stops the server
    "asyncpg.exceptions.InsufficientResourcesError",
    "asyncpg.exceptions._base.InterfaceError",  # the connection or the pool is closed
    "nats.errors.ConnectionClosedError",
    "nats.errors.ConnectionDrainingError",
    "nats.errors.ConnectionReconnectingError",
    "nats.errors.DrainTimeoutError",
    "nats.errors.NoRespondersError",
    "nats.errors.NoServersError",
    "nats.errors.OutboundBufferLimitError",
    "nats.errors.StaleConnectionError",
    "nats.errors.TimeoutError",
    "nats.js.errors.NoStreamResponseError",
    "nats.js.errors.ServiceUnavailableError",
    "urllib3.exceptions.HTTPError",
}
# No ConnectionError to Python: there is no way to the server at the moment.
_NO_WAY = {errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN}
_LOST_RACE = {
    "asyncpg.exceptions.DeadlockDetectedError",
    "asyncpg.exceptions.SerializationError",
    "asyncpg.exceptions.LockNotAvailableError",
}
# PostgreSQL stores no NUL character; protobuf carries one.
_BAD_TEXT = {
    "asyncpg.exceptions.CharacterNotInRepertoireError",
    "asyncpg.exceptions.UntranslatableCharacterError",  # within JSON
}
# Answers of a sibling service that mean to our caller what they mean to us.
_PASSED_ON = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The caller's error, and the cause that only the log may show (None if the error says everything)."""

    error: LatheError
    cause: BaseException | None = None


def explain(error: BaseException) -> Explanation:
    """Return what to answer to a call whose handler raised `error`."""
    error = _only_leaf(error)
    if isinstance(error, LatheError):
        return Explanation(error)
    if isinstance(error, grpc.aio.AioRpcError):
        return _explain_sibling(error)
    names = {f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__}
    if names & _BAD_TEXT:
        return Explanation(invalid_argument("", "A text of the request contains a NUL character. Remove it."))
    if names & _LOST_RACE:
        return Explanation(
            aborted("CONFLICT", "Another call changed the same thing at the same time; try again."), error
        )
    if names & _NO_ANSWER or _is_cut_off(error) or _is_server_fault(error):
        server = _server_of(error)
        if server:
            message = f"{_capitalized(server)} does not answer at the moment; try again shortly."
            return Explanation(unavailable(server, message), error)
    return _unexpected(error)


def _is_cut_off(error: BaseException) -> bool:
    away = isinstance(error, ConnectionError | TimeoutError | socket.gaierror)
    return away or (isinstance(error, OSError) and error.errno in _NO_WAY)


def _explain_sibling(error: grpc.aio.AioRpcError) -> Explanation:
    answer = from_rpc_error(error)
    if answer.code in _PASSED_ON:
        return Explanation(answer)
    # A server that goes away in the middle of a call answers CANCELLED: nobody here cancelled the call.
    if answer.code in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
        if answer.reason != answer.code.name or answer.metadata:
            return Explanation(answer)  # the sibling itself says what does not answer
        message = "Another Lathe service does not answer at the moment; try again shortly."
        return Explanation(unavailable("lathe", message), error)
    return _unexpected(error)


def _unexpected(error: BaseException) -> Explanation:
    error_id = uuid.uuid4().hex[:12]
    message = (
        f"Lathe itself failed; your request is not the cause. Operators find the details in the log under the error id "
        f"{error_id}."
    )
    answer = LatheError(grpc.StatusCode.INTERNAL, "INTERNAL", message, metadata={"error_id": error_id})
    return Explanation(answer, error)


def _only_leaf(error: BaseException) -> BaseException:
    """Return the exception inside a task group's: the one that is an answer, or else the first."""
    while isinstance(error, BaseExceptionGroup):
        leaves = [each for each in error.exceptions if not isinstance(each, asyncio.CancelledError)]
        answers = [each for each in leaves if isinstance(each, LatheError)]
        error = (answers or leaves or list(error.exceptions))[0]
    return error


def _is_server_fault(error: BaseException) -> bool:
    """Return whether it is an S3 answer that says "not now": a status of 500 and above."""
    answer = getattr(error, "response", None)
    status = getattr(answer, "status", getattr(error, "status_code", 0))
    return isinstance(status, int) and status >= 500


def _server_of(error: BaseException) -> str:
    """Return the server that the error is about: by its class, else by the code that ran; empty if neither says."""
    modules = [type(error).__module__]
    modules += [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    for module in modules:
        for package, server in _SERVERS.items():
            if module == package or module.startswith(package + "."):
                return server
    return ""


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
