"""Exit codes of `lathe`, for scripts: one table, and how gRPC codes map to it."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of commands."""

    OK = 0
    FAILED = 1
    """The operation failed; the message says why."""
    USAGE = 2
    """The command line or a value is wrong."""
    NOT_FOUND = 3
    """The resource does not exist. `lathe status`: a part of the stack is not healthy."""
    UNAVAILABLE = 4
    """A service does not answer. `lathe status`: nothing runs."""
    TASK_FAILED = 5
    """The task that was waited for ended as FAILED."""
    TASK_CANCELLED = 6
    """The task that was waited for ended as CANCELLED."""
    CONFLICT = 7
    """The resource already exists, has changed meanwhile, or is in the wrong state."""
    DENIED = 8
    """The caller is unknown or has no permission."""
    TIMEOUT = 9
    """It took longer than allowed."""
    PARITY_WARN = 10
    """The task succeeded, but a parity verdict is WARN, and it was not accepted."""
    NO_GAIN = 11
    """The task succeeded, but its result is not faster than its source beyond noise, and --require-gain was given."""
    UNVERIFIED = 12
    """The task succeeded, but a form ran nowhere: its parity verdict is UNVERIFIED."""
    UNSIGNED = 13
    """`lathe verify`: the files are those that the provenance names, but no signature was checked."""
    INTERRUPTED = 130
    """Ctrl-C."""


_BY_GRPC_CODE = {
    "INVALID_ARGUMENT": ExitCode.USAGE,
    "OUT_OF_RANGE": ExitCode.USAGE,
    "NOT_FOUND": ExitCode.NOT_FOUND,
    "UNAVAILABLE": ExitCode.UNAVAILABLE,
    "ALREADY_EXISTS": ExitCode.CONFLICT,
    "ABORTED": ExitCode.CONFLICT,
    "FAILED_PRECONDITION": ExitCode.CONFLICT,
    "UNAUTHENTICATED": ExitCode.DENIED,
    "PERMISSION_DENIED": ExitCode.DENIED,
    "DEADLINE_EXCEEDED": ExitCode.TIMEOUT,
    "CANCELLED": ExitCode.INTERRUPTED,
}


def exit_code_for(grpc_code: str) -> ExitCode:
    """Return the exit code for the name of a gRPC status code."""
    return _BY_GRPC_CODE.get(grpc_code, ExitCode.FAILED)
