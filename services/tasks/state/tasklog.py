"""The log of one attempt: on disk while it runs, live on the bus in batches, and stored whole at its end.

The stored form is text: a line is `<time> <text>`, with the time in RFC 3339 with microseconds.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from lathe.internal.v1 import event_pb2
from lathe.type.v1 import task_pb2

FLUSH_SECONDS = 0.25
MAX_LINE = 8192
MAX_BATCH_BYTES = 256 * 1024
MAX_LOG_BYTES = 32 * 1024 * 1024
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Publish = Callable[[event_pb2.TaskLogged], Awaitable[None]]


class AttemptLog:
    """Collects lines in a file; `publish` sends a batch of them to followers. At most one batch is in memory."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._file: IO[bytes] | None = None
        self._size = 0
        self._cut = False
        # How much of it is published: bytes, and lines.
        self._sent = 0
        self._sent_lines = 0
        self._flusher: asyncio.Task[None] | None = None

    def write(self, text: str) -> None:
        """Add text, as one line or several."""
        for line in text.splitlines() or [""]:
            self._add(line[:MAX_LINE])

    def _add(self, line: str) -> None:
        if self._cut:
            return
        stored = _stored(line)
        if self._size + len(stored) > MAX_LOG_BYTES:
            self._cut = True
            stored = _stored("(the log is cut here)")
        if self._file is None:
            # It has no name, so that a process that is killed leaves nothing; `discard` closes it.
            self._file = TemporaryFile()  # noqa: SIM115
        self._file.seek(0, os.SEEK_END)
        self._file.write(stored)
        self._size += len(stored)
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush_soon())

    async def flush(self) -> None:
        """Send the lines that were not sent yet."""
        while self._file is not None and self._sent < self._size:
            self._file.seek(self._sent)
            batch = self._file.read(MAX_BATCH_BYTES)
            batch = batch[: batch.rindex(b"\n") + 1]
            lines = [line.partition(" ")[2] for line in batch.decode().split("\n")[:-1]]
            first = self._sent_lines + 1
            self._sent += len(batch)
            self._sent_lines += len(lines)
            await self._publish(event_pb2.TaskLogged(first_line=first, lines=lines))

    async def close(self) -> Path | None:
        """Send the rest, and return the file of the whole log, for this process alone; None if nothing was written."""
        if self._flusher is not None:
            self._flusher.cancel()
        await self.flush()
        if self._file is None:
            return None
        self._file.flush()
        return Path(f"/proc/self/fd/{self._file.fileno()}")

    def discard(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()

    async def _flush_soon(self) -> None:
        await asyncio.sleep(FLUSH_SECONDS)
        self._flusher = None
        await self.flush()


def _stored(line: str) -> bytes:
    return f"{datetime.now(UTC).isoformat(timespec='microseconds')} {line}\n".encode(errors="replace")


def read_log(stored: bytes, attempt: int, after: int = 0, tail: int = 0) -> Iterator[task_pb2.LogLine]:
    """Return the lines of a stored log: those after number `after`, and only the last `tail` of them if not 0."""
    lines = stored.decode(errors="replace").splitlines()
    start = max(after, len(lines) - tail if tail else 0)
    for number, line in enumerate(lines[start:], start=start + 1):
        moment, _, text = line.partition(" ")
        entry = task_pb2.LogLine(attempt=attempt, number=number, text=text)
        # Of hundreds of thousands of lines, `FromDatetime` would take half of the time.
        since, time = datetime.fromisoformat(moment) - EPOCH, entry.time
        time.seconds, time.nanos = since.days * 86400 + since.seconds, since.microseconds * 1000
        yield entry
