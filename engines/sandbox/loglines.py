"""Lines of a child's output: bounded, decoded, with progress bars thinned out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from time import monotonic

MAX_LINE = 16 * 1024
"""Longest line in bytes; the rest is dropped and the cut is marked."""
BAR_INTERVAL = 1.0
"""A line that is overwritten with a carriage return is passed on at most this often, in seconds."""

_BREAK = re.compile(rb"\r\n|\n|\r")


class LineSplitter:
    r"""Cuts a byte stream into lines.

    A line ends at "\n" or "\r\n". A lone "\r" ends a state of a progress bar; of states in quick succession only
    the last is kept. Memory is bounded by `MAX_LINE` whatever the input.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        """Measure the time between progress bar states with `clock` (seconds)."""
        self._clock = clock
        self._line = bytearray()
        self._dropped = 0
        self._bar: str | None = None
        self._bar_at = float("-inf")
        self._after_return = False

    def feed(self, data: bytes) -> Iterator[str]:
        """Yield the lines that `data` completes."""
        start = 0
        for match in _BREAK.finditer(data):
            end = match.start()
            if end > start:
                self._add(data[start:end])
            start = match.end()
            if match.group() == b"\r":
                self._after_return = True
                yield from self._bar_state()
            elif match.group() == b"\n" and self._after_return and not self._line:
                # "\r\n" that arrived in two pieces, or a bar that is done.
                yield from self._take_bar()
                self._after_return = False
            else:
                yield self._take_line()
        if start < len(data):
            self._add(data[start:])

    def close(self) -> Iterator[str]:
        """Yield the rest at the end of the stream."""
        if self._line:
            yield self._take_line()
        else:
            yield from self._take_bar()

    def _add(self, piece: bytes) -> None:
        self._after_return = False
        room = MAX_LINE - len(self._line)
        self._line += piece[:room]
        self._dropped += max(0, len(piece) - room)

    def _bar_state(self) -> Iterator[str]:
        if not self._line:
            return
        self._bar = self._text()
        if self._clock() - self._bar_at >= BAR_INTERVAL:
            yield from self._take_bar()

    def _take_bar(self) -> Iterator[str]:
        if self._bar is not None:
            yield self._bar
            self._bar = None
            self._bar_at = self._clock()

    def _take_line(self) -> str:
        self._bar = None
        self._after_return = False
        return self._text()

    def _text(self) -> str:
        text = self._line.decode("utf-8", errors="replace")
        if self._dropped:
            text += f" … ({self._dropped:,} more bytes of this line are not shown)"
        self._line.clear()
        self._dropped = 0
        return text
