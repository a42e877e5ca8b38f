"""A form that is open in its runtime, and how a process is set up to serve it: what all openers share.

Packages carry this file and the openers that they need, and run them without Lathe. So these files import nothing but
the standard library, NumPy, the runtime, and each other by relative paths.
"""

from __future__ import annotations

import ctypes
import functools
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

THREADS = "threads"
ALLOCATOR = "allocator"
OWN_OPTIONS = frozenset({THREADS, ALLOCATOR, "inputs", "binding", "computes_on"})
"""Options of a form that are Lathe's own: no runtime knows them by these names."""

NO_OVERFLOW_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
"""Processor flags: with any of them, sums of 8-bit products do not saturate."""

_MALLOPT = {-1: 2**31 - 1, -2: 64 << 20, -4: 0}
"""glibc's M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX: freed memory stays with the process. If it went back to the kernel,
the next call would fault it in again, page by page."""


class UnfitMachineError(ValueError):
    """This machine cannot run the form; the message says what is missing."""


class CallTimes(NamedTuple):
    """Times of one call, in milliseconds; zero for a direction in which nothing is copied."""

    host_to_device: float
    compute: float
    device_to_host: float

    @classmethod
    def between(cls, moments: Sequence[float]) -> CallTimes:
        """Return the times between four moments of `time.perf_counter()`: start, copied in, computed, copied back."""
        start, copied, computed, end = moments
        return cls((copied - start) * 1e3, (computed - copied) * 1e3, (end - computed) * 1e3)


class OpenedForm(ABC):
    """A form that is ready to run.

    Attributes:
        requests: Number of calls that it computes at the same time.
        outputs: Names of the outputs, in order, if the file itself states them.
    """

    requests = 1
    outputs: tuple[str, ...] = ()

    @abstractmethod
    def run(self, feed: Mapping[str, Any]) -> list[Any]:
        """Return the outputs in order, for C-contiguous arrays by name; the arrays belong to the caller."""

    def timed(self, feed: Mapping[str, Any]) -> tuple[list[Any], CallTimes]:
        """Return the outputs of a call and its times; a form that holds tensors of its own times the copies."""
        start = time.perf_counter()
        outputs = self.run(feed)
        return outputs, CallTimes(0.0, (time.perf_counter() - start) * 1e3, 0.0)

    def run_many(self, feeds: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
        """Return the outputs of each feed; as many feeds are computed at the same time as the form has streams."""
        return [self.run(feed) for feed in feeds]

    @abstractmethod
    def close(self) -> None:
        """Release the runtime, its threads and its memory. Closing twice is harmless; a closed form runs nothing."""


def set_up_process(options: Mapping[str, str], threads: int) -> int:
    """Set the process up as a form's options say; return the number of threads for the form, at most `threads`."""
    if options.get(ALLOCATOR) == "tuned":
        _keep_memory()
    return min(threads, int(options.get(THREADS, threads)))


def _keep_memory() -> None:
    """Let this process keep the memory that it frees; other allocators than glibc's have no such setting."""
    if sys.platform.startswith("linux") and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        for name, value in _MALLOPT.items():
            mallopt(name, value)


@functools.cache
def products_saturate() -> bool:
    """Return whether this processor adds 8-bit products in 16 bits, which overflow: x86 without VNNI or AMX.

    Weights of 7 bits keep every sum inside, at the price of half their resolution. OpenVINO needs them on such a
    processor; ONNX Runtime is told to compute exactly instead.
    """
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return True
    return NO_OVERFLOW_FLAGS.isdisjoint(words)
