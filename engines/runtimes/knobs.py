"""Knobs that several runtimes share, and what a form's options say of the process that serves it.

Options stand in the package, and `infer.py` follows them as the sessions here do.
"""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Mapping

from engines.failures import EngineFailure, FailureReason

log = logging.getLogger(__name__)

THREADS = "threads"
ALLOCATOR = "allocator"
INPUTS = "inputs"
OWN_OPTIONS = frozenset({THREADS, ALLOCATOR, INPUTS, "binding"})
"""Options that no runtime knows by these names: Lathe's own."""

_MALLOPT = {-1: 2**31 - 1, -2: 64 << 20, -4: 0}
"""glibc's M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX: freed memory stays with the process instead of going back to the
kernel, from where the next call would fault it in again, page by page."""


def check_knobs(runtime: str, knobs: Mapping[str, str], offered: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a knob that a runtime does not have, or a value that it does not take; no values stand for any number.

    Raises:
        EngineFailure: INVALID_SPEC that lists what there is.
    """
    for name, value in knobs.items():
        values = offered.get(name)
        if values is None:
            known = ", ".join(sorted(offered)) or "none"
            raise _invalid(f"{runtime} has no knob '{name}'; it has {known}.")
        if values and value not in values:
            raise _invalid(f"{runtime}'s knob '{name}' takes {' or '.join(values)}; given was '{value}'.")
        if not values and not (value.isdecimal() and int(value) > 0):
            raise _invalid(f"{runtime}'s knob '{name}' takes a whole number above 0; given was '{value}'.")


def shared_options(knobs: Mapping[str, str]) -> dict[str, str]:
    """Return the options of the knobs that every runtime takes alike."""
    return {name: knobs[name] for name in (THREADS, ALLOCATOR) if name in knobs}


def serve_as_stated(options: Mapping[str, str], threads: int) -> int:
    """Set the process up as a form's options say; return the threads that its session takes, at most those given."""
    if options.get(ALLOCATOR) == "tuned":
        keep_memory()
    return min(threads, int(options.get(THREADS, threads)))


def keep_memory() -> None:
    """Let this process keep the memory that it frees; where there is no glibc, nothing happens."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None or not all(mallopt(name, value) for name, value in _MALLOPT.items()):
        log.info("The allocator of this process takes no settings.")


def _invalid(message: str) -> EngineFailure:
    return EngineFailure(FailureReason.INVALID_SPEC, message)
