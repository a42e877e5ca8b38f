"""The process tree under a child: members, usage, killing. Reads /proc, imports nothing heavy."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Usage:
    """Current use of a process tree: resident memory in bytes, and number of processes and of their threads."""

    memory_bytes: int
    processes: int
    threads: int


class Expendables:
    """The processes that a job starts: if the machine runs out of memory, the kernel kills them before the job.

    The job itself cannot arrange this, because it sees /proc read-only.
    """

    def __init__(self, root: int) -> None:
        """Spare the existing processes."""
        self._root = root
        self._seen = {root, *descendants(root)}

    def offer(self) -> None:
        """Mark new processes for the kernel, if it permits that."""
        started = set(descendants(self._root)) - self._seen
        self._seen |= started
        for pid in started:
            with suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
                file.write("1000")


def descendants(root: int) -> list[int]:
    """Return the process ids under `root`, parents before children; `root` is not among them."""
    found: list[int] = []
    pending = [root]
    children_of = _children_lookup()
    while pending:
        children = children_of(pending.pop(0))
        found += children
        pending += children
    return found


def usage(root: int, above: int) -> Usage:
    """Return the use of `root` and all processes under it.

    Resident memory counts shared pages once per process. If that sum is over `above` and there is more than one
    process, the proportional figure is used, which is exact but costs the kernel more.
    """
    pids = [root, *descendants(root)]
    looks = [_look(pid) for pid in pids]
    resident = sum(bytes_ for bytes_, _ in looks)
    if resident > above and len(pids) > 1:
        resident = sum(_proportional(pid) for pid in pids)
    return Usage(resident, len(pids), sum(threads for _, threads in looks))


def kill(pid: int) -> None:
    """Kill a process if it still exists."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _children_lookup() -> Callable[[int], list[int]]:
    """Return the function that finds children of a process: the kernel's list if there is one, else a scan of /proc."""
    if os.path.exists("/proc/thread-self/children"):
        return _listed_children
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        fields = _stat(int(name))
        if len(fields) > 1:
            children.setdefault(int(fields[1]), []).append(int(name))
    return lambda pid: children.get(pid, [])


def _listed_children(pid: int) -> list[int]:
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(child) for thread in threads for child in _read(f"/proc/{pid}/task/{thread}/children").split()]


def _look(pid: int) -> tuple[int, int]:
    """Return the resident bytes of a process and the number of its threads; see proc_pid_stat(5)."""
    fields = _stat(pid)
    return (int(fields[21]) * _PAGE, int(fields[17])) if len(fields) > 21 else (0, 0)


def _proportional(pid: int) -> int:
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return _look(pid)[0]


def _stat(pid: int) -> list[str]:
    """Return the fields of a process from its state on; before them is its name, with parentheses and spaces in it."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
