"""Exceptions inside the child, as failures that a person can act on."""

from __future__ import annotations

import errno
import traceback

from engines.failures import EngineFailure, FailureReason, tells_of_no_memory
from engines.sandbox.audit import Auditor, violation

_REFUSALS = (errno.EACCES, errno.EPERM, errno.EROFS)
_EVIDENCE_LINES = 12


def from_exception(error: BaseException, auditor: Auditor) -> EngineFailure:
    """Return the failure for an exception that left the entry function."""
    if isinstance(error, EngineFailure):
        return error
    evidence = "".join(traceback.format_exception(error)[-_EVIDENCE_LINES:]).strip()
    if isinstance(error, MemoryError) or _is_no_memory(error):
        message = f"The work requested more memory than its limit: {_sentence(error)}"
        return EngineFailure(FailureReason.OUT_OF_MEMORY, message, evidence=evidence)
    if isinstance(error, SystemExit):
        return EngineFailure(
            FailureReason.TOOLCHAIN_CRASHED,
            f"The work ended its own process with sys.exit({error.code!r}) instead of returning a result.",
            evidence=evidence,
        )
    place = _innermost_user_line(error, auditor)
    return _of_engine(error, evidence) if place is None else _of_model(error, place, evidence)


def _of_engine(error: BaseException, evidence: str) -> EngineFailure:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return from_import(error.name, error)
    return EngineFailure(FailureReason.INTERNAL_ERROR, f"The engine failed: {_sentence(error)}", evidence=evidence)


def _of_model(error: BaseException, place: tuple[str, int], evidence: str) -> EngineFailure:
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        return violation(f"reach what the sandbox forbids: {error}", *place)
    return EngineFailure(
        FailureReason.INVALID_ARCHITECTURE,
        f"The model's code failed in {place[0]}, line {place[1]}: {_sentence(error)}",
        node=f"{place[0]}:{place[1]}",
        evidence=evidence,
        suggested_fix=f"Run {place[0]} in the training environment, with the same inputs, and fix the error that it "
        "reports.",
    )


def from_import(module: str, error: BaseException) -> EngineFailure:
    """Return the failure of a module that the child was to import before any work."""
    missing = error.name if isinstance(error, ModuleNotFoundError) and error.name else module
    what = f"the module {missing} is not installed" if isinstance(error, ModuleNotFoundError) else _sentence(error)
    return EngineFailure(
        FailureReason.TOOLCHAIN_UNAVAILABLE,
        f"{module} cannot be loaded here: {what}.",
        evidence="".join(traceback.format_exception(error)[-_EVIDENCE_LINES:]).strip(),
        suggested_fix=f"Install the package that provides {missing} on the worker, or use another worker.",
    )


def _is_no_memory(error: BaseException) -> bool:
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError | OSError) and tells_of_no_memory(str(error))
    )


def _innermost_user_line(error: BaseException, auditor: Auditor) -> tuple[str, int] | None:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if auditor.is_user_file(frame.filename)]
    return (auditor.place(frames[-1].filename), frames[-1].lineno or 0) if frames else None


def _sentence(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:500]}" if text else type(error).__name__
