"""Failures of models, architectures and tools, as the engines raise them.

Callers of the library and tasks of the services see the same reason, node and advice:

    EngineFailure          .reason is a `FailureReason`, one of the names that the API documents
    └── InvalidField       a field of a request, by its path
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pydantic import ValidationError


class FailureReason(StrEnum):
    """Reason of a failure, with the names of `lathe.type.v1.FailureReason`; a test compares the two."""

    INVALID_MODEL = "INVALID_MODEL"
    UNSAFE_MODEL = "UNSAFE_MODEL"
    INVALID_ARCHITECTURE = "INVALID_ARCHITECTURE"
    WEIGHTS_MISMATCH = "WEIGHTS_MISMATCH"
    SHAPE_MISMATCH = "SHAPE_MISMATCH"
    UNSUPPORTED_OPERATOR = "UNSUPPORTED_OPERATOR"
    UNSUPPORTED_PRECISION = "UNSUPPORTED_PRECISION"
    PARITY_FAILED = "PARITY_FAILED"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    TIMEOUT = "TIMEOUT"
    TOOLCHAIN_UNAVAILABLE = "TOOLCHAIN_UNAVAILABLE"
    TOOLCHAIN_CRASHED = "TOOLCHAIN_CRASHED"
    INPUT_UNAVAILABLE = "INPUT_UNAVAILABLE"
    WORKER_LOST = "WORKER_LOST"
    INFRASTRUCTURE = "INFRASTRUCTURE"
    INVALID_SPEC = "INVALID_SPEC"
    INTERNAL_ERROR = "INTERNAL_ERROR"
    INVALID_DATA = "INVALID_DATA"
    OUTPUT_MISMATCH = "OUTPUT_MISMATCH"
    STATEFUL_MODEL = "STATEFUL_MODEL"


def first_line(error: BaseException) -> str:
    """Return the first line of an error that is not empty, at most 300 characters; its type if there is none."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line[:300] for line in lines if line), type(error).__name__)


def count(value: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: `1 sample`, `12,000 samples`."""
    return f"{value:,} {noun if value == 1 else plural or noun + 's'}"


def first_objection(error: ValidationError, whole: str = "the whole") -> tuple[str, str]:
    """Return the dotted path of the first invalid value (`whole` for the value itself), and the objection to it."""
    first = error.errors()[0]
    return ".".join(map(str, first["loc"])) or whole, first["msg"]


class EngineFailure(Exception):  # noqa: N818 - the API calls it a failure: a task has one
    """A failure with its kind, its place and what to do about it.

    Attributes:
        reason: The kind of failure.
        message: One or two sentences for a person.
        node: Graph node or module concerned, or empty.
        operator: Operator type concerned, or empty.
        evidence: Observations: keys and shapes, an error and its threshold.
        suggested_fix: What to do about it.
        retryable: Whether the same work may succeed when it is repeated.
    """

    def __init__(
        self,
        reason: FailureReason,
        message: str,
        *,
        node: str = "",
        operator: str = "",
        evidence: str = "",
        suggested_fix: str = "",
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.node = node
        self.operator = operator
        self.evidence = evidence
        self.suggested_fix = suggested_fix
        self.retryable = retryable

    def to_dict(self) -> dict[str, Any]:
        """Return the failure as JSON-ready values, with the field names of `lathe.type.v1.Failure`."""
        return {
            "reason": self.reason.value,
            "message": self.message,
            "node": self.node,
            "operator": self.operator,
            "evidence": self.evidence,
            "suggested_fix": self.suggested_fix,
            "retryable": self.retryable,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Return the failure that `to_dict` wrote."""
        fields = dict(values)
        return cls(FailureReason(fields.pop("reason")), fields.pop("message"), **fields)


class InvalidField(EngineFailure):
    """A field of a request that cannot have its value.

    Attributes:
        field: Path of the field: `device`, `components.net.inputs.x.shape`.
        objection: What is wrong with it; no whole sentence.
        code: Name of the mistake for programs, in UPPER_SNAKE_CASE; empty if it has none.
    """

    def __init__(
        self,
        field: str,
        objection: str,
        fix: str = "",
        *,
        code: str = "",
        reason: FailureReason = FailureReason.INVALID_SPEC,
    ) -> None:
        super().__init__(reason, f"The request's field '{field}' is wrong: {objection}.", suggested_fix=fix)
        self.field = field
        self.objection = objection
        self.code = code

    def under(self, path: str) -> InvalidField:
        """Return the failure with the path that holds its field in front."""
        fields = f"{path}.{self.field}", self.objection, self.suggested_fix
        return InvalidField(*fields, code=self.code, reason=self.reason)


def invalid(message: str, fix: str = "") -> EngineFailure:
    """Return the INVALID_SPEC failure of a message, with the suggested fix."""
    return EngineFailure(FailureReason.INVALID_SPEC, message, suggested_fix=fix)


def invalid_field(error: ValidationError) -> InvalidField:
    """Return the failure of a request that does not validate, naming the field."""
    return InvalidField(*first_objection(error))


def tells_of_no_memory(text: str) -> bool:
    """Return whether an error message of a framework or runtime reports that memory ran out."""
    return _NO_MEMORY.search(text) is not None


_NO_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|not enough memory|std::bad_alloc|bad allocation|out of memory"
    r"|unable to allocate|failed to allocate memory|could not allocate|can't start new thread",
    re.IGNORECASE,
)
