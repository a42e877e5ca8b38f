"""The errors that handlers raise as answers to callers.

    LatheError
    └── .code      a gRPC status code
        .reason    a word for programs, such as ETAG_MISMATCH: the `ErrorInfo` of the domain "lathe"
        .message   a sentence for people

The functions below build the usual ones. The server answers with them as `google.rpc.Status`, and `from_rpc_error`
reads them again on the other side.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from engines.failures import InvalidField

DOMAIN = "lathe"
_VERDICTS = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
    }
)
DETAILS_KEY = "grpc-status-details-bin"

# Peers refuse trailers beyond 8 KiB; details travel as base64 and the message once more, percent-encoded.
_MESSAGE_BYTES = 1000
_STATUS_BYTES = 3000
_FIELDS = 20
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class LatheError(Exception):
    """An answer to a caller other than OK.

    Attributes:
        code: The gRPC status code.
        reason: Why, in UPPER_SNAKE_CASE; stable, for programs.
        message: What is wrong, where, and what to do about it.
        fields: Fields of the request that are wrong, each with its description.
        resource: Kind and name of the resource concerned, or None.
        preconditions: What the state must be first: (type, subject, description).
        metadata: More for programs, carried in `ErrorInfo`.
        retry_after: Seconds after which to try again, or None.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        reason: str,
        message: str,
        *,
        fields: Sequence[tuple[str, str]] = (),
        resource: tuple[str, str] | None = None,
        preconditions: Sequence[tuple[str, str, str]] = (),
        metadata: dict[str, str] | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.fields = list(fields)
        self.resource = resource
        self.preconditions = list(preconditions)
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after


def is_transient(code: grpc.StatusCode) -> bool:
    """Return whether the same call may succeed later: the code says nothing about the request itself.

    A sibling that restarts, is upgraded, has a fault or lost its credentials answers with such a code. Who records
    an answer for good (a task that fails, a member of a group) asks this first.
    """
    return code not in _VERDICTS


def invalid_argument(field: str, description: str, reason: str = "INVALID_ARGUMENT") -> LatheError:
    """Return the error for one wrong field; `field` is its path in the request, such as `spec.template`."""
    return invalid_fields([(field, description)], reason)


def invalid_fields(fields: Sequence[tuple[str, str]], reason: str = "INVALID_ARGUMENT") -> LatheError:
    """Return the error for several wrong fields at once: (path in the request, description)."""
    return LatheError(grpc.StatusCode.INVALID_ARGUMENT, reason, _joined(fields), fields=fields)


def missing_references(fields: Sequence[tuple[str, str]]) -> LatheError:
    """Return the error for what a request refers to and does not exist: (path in the request, description).

    `not_found` serves as well if it is one resource: the server finds the fields that name it.
    """
    return LatheError(grpc.StatusCode.NOT_FOUND, "REFERENCE_NOT_FOUND", _joined(fields), fields=fields)


@contextmanager
def engine_rules(inside: str) -> Iterator[None]:
    """Answer INVALID_ARGUMENT if a rule of the engines refuses a field; `inside` is where the request holds it."""
    try:
        yield
    except InvalidField as failure:
        description = f"{failure.objection}. {failure.suggested_fix}" if failure.suggested_fix else failure.objection
        reason = failure.code or "INVALID_ARGUMENT"
        raise invalid_argument(f"{inside}.{failure.field}", description, reason) from None


def not_found(kind: str, name: str) -> LatheError:
    """Return the error for a resource that does not exist, for example `not_found("model", "models/resnet50")`."""
    if "/aliases/" in name:  # a request may give one for a version
        kind = "alias"
    message = f"There is no {kind} named {name!r}."
    return LatheError(grpc.StatusCode.NOT_FOUND, "NOT_FOUND", message, resource=(kind, name))


def already_exists(kind: str, name: str, message: str | None = None) -> LatheError:
    """Return the error for a name that is taken."""
    article = "an" if kind[0] in "aeiou" else "a"
    message = message or f"There is already {article} {kind} named {name!r}; choose another name."
    return LatheError(grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS", message, resource=(kind, name))


def failed_precondition(reason: str, message: str, subject: str = "") -> LatheError:
    """Return the error for a call that is right in itself but not in the present state of `subject`."""
    code = grpc.StatusCode.FAILED_PRECONDITION
    return LatheError(code, reason, message, preconditions=[(reason, subject, message)])


def aborted(reason: str, message: str) -> LatheError:
    """Return the error for a call that lost against another one: read again, then try again."""
    return LatheError(grpc.StatusCode.ABORTED, reason, message)


def unavailable(what: str, message: str, retry_after: float = 1.0) -> LatheError:
    """Return the error for a server that does not answer; `what` names it, `retry_after` is in seconds."""
    code = grpc.StatusCode.UNAVAILABLE
    return LatheError(code, "UNAVAILABLE", message, metadata={"server": what}, retry_after=retry_after)


def permission_denied(message: str) -> LatheError:
    """Return the error for a caller who is known but may not do this."""
    return LatheError(grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED", message)


def unauthenticated(message: str, reason: str = "UNAUTHENTICATED") -> LatheError:
    """Return the error for a caller who is not known."""
    return LatheError(grpc.StatusCode.UNAUTHENTICATED, reason, message)


def resource_exhausted(reason: str, message: str, retry_after: float | None = None) -> LatheError:
    """Return the error for a quota, a size limit or a queue that is full."""
    return LatheError(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, message, retry_after=retry_after)


def to_status(error: LatheError) -> status_pb2.Status:
    """Return the error as `google.rpc.Status` with its details, cut to what fits in the trailers of a call."""
    status = status_pb2.Status(code=error.code.value[0], message=_cut(error.message, _MESSAGE_BYTES))
    for detail in _details(error):
        packed = any_pb2.Any()
        packed.Pack(detail)
        if status.ByteSize() + packed.ByteSize() <= _STATUS_BYTES:
            status.details.append(packed)
    return status


def trailers(status: status_pb2.Status) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata that carries the details of a status."""
    return ((DETAILS_KEY, status.SerializeToString()),)


def from_rpc_error(error: grpc.aio.AioRpcError) -> LatheError:
    """Return what another service answered, with its details; without any, the reason is the name of the code."""
    result = LatheError(error.code(), error.code().name, error.details() or error.code().name)
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            status = status_pb2.Status.FromString(value if isinstance(value, bytes) else value.encode())
            result.code, result.message = _CODES[status.code], status.message
            for detail in status.details:
                _read(detail, result)
    return result


def _details(error: LatheError) -> Iterable[Message]:
    yield error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(int(error.retry_after * 1000))
        yield retry
    if error.resource is not None:
        kind, name = error.resource
        yield error_details_pb2.ResourceInfo(resource_type=kind, resource_name=_cut(name, 200))
    if error.fields:
        bad = error_details_pb2.BadRequest()
        for field, description in error.fields[:_FIELDS]:
            bad.field_violations.add(field=_cut(field, 200), description=_cut(description, 500))
            if bad.ByteSize() > _STATUS_BYTES // 2:
                break
        yield bad
    if error.preconditions:
        failure = error_details_pb2.PreconditionFailure()
        for kind, subject, description in error.preconditions[:_FIELDS]:
            failure.violations.add(type=kind, subject=_cut(subject, 200), description=_cut(description, 300))
            if failure.ByteSize() > _STATUS_BYTES // 3:
                break
        yield failure


def _read(detail: any_pb2.Any, into: LatheError) -> None:
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    failure, resource = error_details_pb2.PreconditionFailure(), error_details_pb2.ResourceInfo()
    retry = error_details_pb2.RetryInfo()
    if detail.Unpack(info):
        into.reason, into.metadata = info.reason, dict(info.metadata)
    elif detail.Unpack(bad):
        into.fields = [(each.field, each.description) for each in bad.field_violations]
    elif detail.Unpack(failure):
        into.preconditions = [(each.type, each.subject, each.description) for each in failure.violations]
    elif detail.Unpack(resource):
        into.resource = (resource.resource_type, resource.resource_name)
    elif detail.Unpack(retry):
        into.retry_after = retry.retry_delay.ToMilliseconds() / 1000


def _joined(fields: Sequence[tuple[str, str]]) -> str:
    return "; ".join(f"{field}: {description}" if field else description for field, description in fields)


def _cut(text: str, size: int) -> str:
    """Return the text in at most `size` bytes of UTF-8, with `…` at the cut."""
    raw = text.encode()
    return text if len(raw) <= size else raw[: size - 3].decode(errors="ignore") + "…"
