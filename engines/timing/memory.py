"""Memory: what a process has used, what it may use, and what the machine can spare."""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path

_USUAL_MEMORY = 8 << 30


def peak_memory() -> int:
    """Return the largest resident memory of this process so far, in bytes.

    The kernel's figure for this program alone; if /proc is closed, that of `getrusage`, which may include the memory of
    the parent at the time of the start.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def limit_memory(memory_bytes: int) -> None:
    """Make allocations beyond this fail in this process alone, before the whole work is stopped."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    bounded = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (bounded, bounded))


def offer_to_go_first() -> None:
    """Let the kernel end this process before others if the machine runs out of memory and allows the setting."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def available_memory() -> int:
    """Return how much memory this machine can spare, in bytes."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return _USUAL_MEMORY
