"""The end of a child, as a failure that a person can act on.

Advice about a limit depends on the kind of work, so the code that set the limit adds it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable

from engines.failures import EngineFailure, FailureReason
from engines.sandbox.processes import Usage
from engines.sandbox.types import Limits, Progress

MAX_PROCESSES = 512
"""A job whose tree has more processes than this is stopped."""
MAX_THREADS = 2048
"""The same of their threads."""


class Died(EngineFailure):
    """The process of a job ended without an answer, or was killed for its use of memory."""


def ended_early(exit_code: int | None, log: Iterable[str]) -> Died:
    """Return the failure of a child that ended without a result.

    Args:
        exit_code: As `os.waitstatus_to_exitcode` gives it: negative for a signal; None if unknown.
        log: The last lines that it printed.
    """
    tail = list(log)
    evidence = "\n".join(tail)
    if exit_code is None:
        return Died(
            FailureReason.TOOLCHAIN_CRASHED,
            "The process that did the work disappeared without an exit status.",
            evidence=evidence,
            retryable=True,
        )
    if exit_code >= 0:
        return Died(
            FailureReason.TOOLCHAIN_CRASHED,
            f"The work ended its own process with exit status {exit_code} instead of returning a result.",
            evidence=evidence,
        )
    name = _signal_name(-exit_code)
    if -exit_code == signal.SIGKILL:
        return Died(
            FailureReason.OUT_OF_MEMORY,
            "The work was killed (SIGKILL) by something other than its own limits, "
            "most likely by the system because the machine ran out of memory.",
            evidence=evidence,
            suggested_fix="Run less on this machine at the same time, or use one with more memory.",
        )
    return Died(
        FailureReason.TOOLCHAIN_CRASHED,
        f"The work crashed with {name} ({_description(-exit_code)}).",
        evidence=evidence,
        suggested_fix="The last log lines name the place; repro.py in the work directory runs the job again by hand.",
    )


def broken_protocol(error: Exception, log: Iterable[str]) -> EngineFailure:
    """Return the failure of a child that sent an invalid message."""
    message = f"The work wrote to the control pipe, which is reserved for the engine: {error}."
    return EngineFailure(FailureReason.TOOLCHAIN_CRASHED, message, evidence="\n".join(log))


def closed_control(log: Iterable[str]) -> EngineFailure:
    """Return the failure of a child that is still running but can no longer answer."""
    message = "The work closed the control pipe and so cannot return a result; it was stopped."
    return EngineFailure(FailureReason.TOOLCHAIN_CRASHED, message, evidence="\n".join(log))


def timed_out(limits: Limits, last: Progress | None, log: Iterable[str]) -> EngineFailure:
    """Return the failure of work that took too long; the log ends with the stack of each thread."""
    doing = f" It was at {last.fraction:.0%}: {last.message}." if last else ""
    return EngineFailure(
        FailureReason.TIMEOUT,
        f"The work took longer than its limit of {limits.timeout_seconds:g} s and was stopped.{doing}",
        evidence="\n".join(log),
    )


def over_memory(used: Usage, limits: Limits, log: Iterable[str]) -> Died:
    """Return the failure of work that exceeded its memory limit."""
    message = f"The work used {_size(used.memory_bytes)} of memory; its limit is {_size(limits.memory_bytes)}."
    return Died(FailureReason.OUT_OF_MEMORY, message, evidence="\n".join(log))


def too_many_tasks(used: Usage, log: Iterable[str]) -> EngineFailure:
    """Return the failure of work that started too many processes or threads."""
    return EngineFailure(
        FailureReason.UNSAFE_MODEL,
        f"The work had {used.processes} processes with {used.threads} threads; at most {MAX_PROCESSES} processes with "
        f"{MAX_THREADS} threads are allowed, and it was stopped.",
        evidence="\n".join(log),
        suggested_fix="Remove the code that starts processes or threads from the model.",
    )


def disk_full(held: int, free: int, log: Iterable[str]) -> EngineFailure:
    """Return the failure of work that has left too little of the disk that it shares with others."""
    return EngineFailure(
        FailureReason.INFRASTRUCTURE,
        f"The disk of the worker is almost full: {_size(free)} are left, and the files of the work take {_size(held)}; "
        "it was stopped.",
        evidence="\n".join(log),
        retryable=True,
        suggested_fix="Give the worker's LATHE_DATA_DIR a larger disk, or take the code that writes out of the model.",
    )


def _size(count: int) -> str:
    return f"{count / (1 << 30):.2f} GiB" if count >= 1 << 30 else f"{count / (1 << 20):.0f} MiB"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _description(number: int) -> str:
    return (signal.strsignal(number) or "unknown signal").lower()
