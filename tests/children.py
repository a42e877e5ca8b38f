"""Processes that were started and end at any moment, for tests that hold that none is left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil


def children() -> set[int]:
    """Return the ids of the direct children of this process.

    Not of theirs: servers that other tests of this process share start and end processes of their own at any time.
    """
    return {child.pid for child in psutil.Process().children()}


def alive(process: psutil.Process) -> bool:
    """Return whether a process still runs; one that has ended and that nobody has waited for yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def named(pids: Iterable[int]) -> dict[psutil.Process, str]:
    """Return those of these processes that are there, with their names: PostgreSQL's may end with a connection."""
    found = {}
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found[process] = process.name()
    return found
