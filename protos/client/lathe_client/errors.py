"""Errors of calls and tasks as exceptions: what happened, where, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

if TYPE_CHECKING:
    from lathe.type.v1.failure_pb2 import Failure

_DETAILS = "grpc-status-details-bin"


class Violation(NamedTuple):
    """One thing that is wrong.

    Attributes:
        subject: The field, resource or rule that it is about.
        description: What is wrong with it and what to do.
    """

    subject: str
    description: str


class LatheError(grpc.RpcError):
    """A call that a service refused, or that did not reach it.

    It is also what `grpc` raises, so that `except grpc.RpcError` catches it and `error.code()` works.

    Attributes:
        message: The service's sentence.
        reason: Value of `lathe.type.v1.ErrorReason` without its prefix; the name of the code if the service gave none.
        violations: Fields or conditions at fault.
        resource: Name of the resource that the error is about; empty if there is none.
    """

    def __init__(self, error: Any) -> None:
        super().__init__(error.details() or error.code().name)
        self._error = error
        self.message: str = error.details() or error.code().name
        self.reason: str = error.code().name
        self.resource = ""
        self.violations: list[Violation] = []
        for packed in _packed(error):
            self._add(packed)

    def _add(self, packed: Any) -> None:
        from google.rpc import error_details_pb2 as details

        info, resource = details.ErrorInfo(), details.ResourceInfo()
        bad, precondition = details.BadRequest(), details.PreconditionFailure()
        if packed.Unpack(info):
            self.reason = info.reason
        elif packed.Unpack(bad):
            self.violations += [Violation(each.field, each.description) for each in bad.field_violations]
        elif packed.Unpack(precondition):
            self.violations += [Violation(each.subject, each.description) for each in precondition.violations]
        elif packed.Unpack(resource):
            self.resource = resource.resource_name

    def code(self) -> grpc.StatusCode:
        """Return the status code."""
        found: grpc.StatusCode = self._error.code()
        return found

    def details(self) -> str:
        """Return the service's sentence, as gRPC calls it."""
        return self.message

    def trailing_metadata(self) -> Any:
        """Return the trailing metadata of the call."""
        return self._error.trailing_metadata()

    def __str__(self) -> str:
        """Return the sentence, the reason, and the violations that the sentence does not mention, each on a line."""
        # A text that a service has shortened ends in an ellipsis.
        news = [each for each in self.violations if each.description.removesuffix("…") not in self.message]
        lines = [f"{self.message} [{self.reason}]"]
        return "\n".join(lines + [f"{where}: {what}" if where else what for where, what in news])


class TaskEndedError(Exception):
    """A task that ended without a result.

    Attributes:
        task: The task's message, as it ended.
        failure: Why it FAILED; None if it was cancelled.
    """

    def __init__(self, task: Any, failure: Failure | None) -> None:
        self.task = task
        self.failure = failure
        super().__init__(f"{task.name} was cancelled." if failure is None else _told(task.name, failure))


class ImportEndedError(Exception):
    """An import of a version that ended without one; `message` is the import as it ended."""

    def __init__(self, message: Any) -> None:
        self.message = message
        has_failed = message.HasField("failure")
        super().__init__(_told(message.name, message.failure) if has_failed else f"{message.name} was cancelled.")


class TransferError(Exception):
    """Bytes that did not arrive, or are not those that were asked for. The message says what to do."""


def _told(name: str, failure: Failure) -> str:
    from lathe.type.v1.failure_pb2 import FailureReason

    reason = FailureReason.Name(failure.reason)
    reason = reason.removeprefix("FAILURE_REASON_")
    lines = [f"{name} failed: {failure.message} [{reason}]"]
    for label, value in (("node", failure.node), ("evidence", failure.evidence), ("fix", failure.suggested_fix)):
        lines += [f"{label}: {value}"] if value else []
    return "\n".join(lines)


def _packed(error: Any) -> Any:
    """Return the details of a refused call; none if they are missing or cannot be read."""
    from google.protobuf.message import DecodeError
    from google.rpc.status_pb2 import Status

    for key, value in error.trailing_metadata() or ():
        if key == _DETAILS:
            try:
                return Status.FromString(value).details
            except DecodeError:
                return ()
    return ()
