"""Small work before large work: what takes minutes pauses while what takes milliseconds is done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Precedence"]

# So that a stream of small files does not keep a large one from ever getting on.
_LONGEST_PAUSE_SECONDS = 0.5


class Precedence:
    """What shares the processors and the store of one process."""

    def __init__(self) -> None:
        self._count = 0
        self._nobody = threading.Event()
        self._nobody.set()

    @contextmanager
    def first(self) -> Iterator[None]:
        """Go before large work for the block. Only for the event loop's thread."""
        self._count += 1
        self._nobody.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._nobody.set()

    def give_way(self) -> None:
        """Wait while small work is done; called by the thread of large work between two pieces of it."""
        self._nobody.wait(_LONGEST_PAUSE_SECONDS)
