"""What files hold that may be replaced while a process runs: read again when they change."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from services.platform.settings import ConfigurationError

__all__ = ["Reread"]

LOOK_AGAIN_SECONDS = 1.0

T = TypeVar("T")


class Reread(Generic[T]):
    """The content of files. If they change and cannot be used, what was known stays.

    Args:
        paths: The files.
        read: Returns what they hold; another object each time.
        log: Where a change is told.
        renewed: What it says if the files were read again.
        refused: What it says if they cannot be used.

    Raises:
        ConfigurationError: The files cannot be used now, at the start.
    """

    def __init__(self, paths: Sequence[Path], read: Callable[[], T], log: Any, *, renewed: str, refused: str) -> None:
        self._paths, self._read, self._log = paths, read, log
        self._renewed, self._refused = renewed, refused
        self._seen = [_state_of(path) for path in paths]
        self._content = read()
        self._look_again = time.monotonic() + LOOK_AGAIN_SECONDS

    def current(self) -> T:
        """Return what the files hold, or held when they could last be used."""
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + LOOK_AGAIN_SECONDS
            if (state := [_state_of(path) for path in self._paths]) != self._seen:
                self._seen = state
                try:
                    self._content = self._read()
                except ConfigurationError as error:
                    self._log.error(self._refused, error=str(error))
                else:
                    self._log.info(self._renewed, file=str(self._paths[0]))
        return self._content


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written or replaced; None if it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
