"""Processes that end at any moment, for tests that hold that none is left."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil


def alive(process: psutil.Process) -> bool:
    """Return whether a process still runs; one that has ended and that nobody has waited for yet does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def named(pids: Iterable[int]) -> dict[psutil.Process, str]:
    """Return those of these processes that are still there, with their names: a server's may be of one connection."""
    found = {}
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found[process] = process.name()
    return found
