"""Turns what a user's code raises into a failure that names the line of the file and the module of the network."""

from __future__ import annotations

import errno
import logging
import traceback
from pathlib import Path

from engines.failures import EngineFailure, FailureReason

log = logging.getLogger(__name__)

_FORBIDDEN = {errno.EPERM, errno.EACCES, errno.EROFS}
_IN_TORCHSCRIPT = "failed in the TorchScript interpreter"
_NO_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc")


def failure_of(
    error: BaseException,
    what: str,
    path: Path | None = None,
    *,
    node: str = "",
    reason: FailureReason = FailureReason.INVALID_ARCHITECTURE,
) -> EngineFailure:
    """Return the failure for an error of a user's code.

    Args:
        error: The error. MemoryError and the engines' own failures are raised again as they are.
        what: The start of the message, up to the error: `'build' raised`.
        path: The architecture file, whose line is named if the traceback has it.
        node: Module of the network in which it was raised.
        reason: The kind of failure; UNSAFE_MODEL or OUT_OF_MEMORY if the error says so.
    """
    if isinstance(error, MemoryError | EngineFailure):
        raise error
    log.error("The architecture's code failed", exc_info=error)
    line = _line(error, path)
    where = f" ({path.name}:{line})" if path and line else ""
    message = f"{what} {_words(error)}{where}."
    if isinstance(error, OSError) and error.errno in _FORBIDDEN:
        message = f"The architecture tried what the sandbox forbids: {error}{where}."
        return EngineFailure(
            FailureReason.UNSAFE_MODEL,
            message,
            node=node,
            suggested_fix="An architecture may build a network and nothing else; take this out of the file.",
        )
    if any(words in str(error) for words in _NO_MEMORY):
        return EngineFailure(
            FailureReason.OUT_OF_MEMORY, message, node=node, suggested_fix="Raise the task's memory limit."
        )
    fix = ""
    if isinstance(error, ImportError):
        fix = "An architecture may import torch, numpy and the standard library; put everything else into the file."
    return EngineFailure(reason, message, node=node, suggested_fix=fix)


def _words(error: BaseException) -> str:
    """Return type and text of an error; of one inside TorchScript the last line, below its traceback."""
    text = str(error)
    if _IN_TORCHSCRIPT in text:
        return text.strip().rpartition("\n")[2][:500]
    return f"{type(error).__name__}: {text[:500]}"


def _line(error: BaseException, path: Path | None) -> int | None:
    """Return the innermost line of the file that was running."""
    if path is None:
        return None
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None
