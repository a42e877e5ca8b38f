"""One stack per data directory."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import TextIO

from services.local.errors import LocalError


class DataDirLock:
    """A lock on a data directory, held by this process until `release` or its end, even by a crash."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "lock"
        self._file: TextIO | None = None

    def acquire(self) -> None:
        """Take the lock and write this process' id into it; the lock of a process that is gone has no effect.

        Raises:
            LocalError: Another process holds it; the message names it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise LocalError(
                f"A stack already runs on {self._path.parent} (process {holder}). Stop it first, "
                "or choose another folder with --data-dir."
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        """Give the lock up."""
        if self._file:
            self._file.close()
            self._file = None
