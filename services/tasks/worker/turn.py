"""One job at a time on an accelerator, whichever worker of this machine runs it."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable
from pathlib import Path

from engines.sandbox import Progress

_LOOK_SECONDS = 0.1


class Turn:
    """A turn on an accelerator: a lock on a file, which ends with the process that holds it.

    Workers of several kinds may share an accelerator. If their jobs ran at the same time, every latency would be wrong.
    """

    def __init__(self, path: Path) -> None:
        """Take turns by a file, which is created if it is not there."""
        self._path = path
        self._file: int | None = None

    async def take(self, on_progress: Callable[[Progress], None] = lambda _progress: None) -> None:
        """Wait until no other job has a turn; taking it twice is harmless."""
        if self._file is not None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        told = False
        try:
            while not _locked(file):
                if not told:
                    on_progress(Progress(0.0, "Waiting for the accelerator, on which another task runs"))
                    told = True
                await asyncio.sleep(_LOOK_SECONDS)
        except BaseException:
            os.close(file)
            raise
        self._file = file

    def end(self) -> None:
        """Let the next job begin; ending a turn twice, or one that was not taken, is harmless."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
