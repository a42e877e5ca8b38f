"""The log of one attempt: on disk while it runs, live on the bus in batches, and stored whole at its end.

The stored form is text: a line is `<time> <text>`, with the time in RFC 3339 with microseconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime

from lathe.type.v1 import event_pb2, task_pb2

FLUSH_SECONDS = 0.25
MAX_LINE = 8192
MAX_BATCH_BYTES = 256 * 1024
MAX_LOG_BYTES = 32 * 1024 * 1024

Publish = Callable[[event_pb2.TaskLogged], Awaitable[None]]


class AttemptLog:
    """Collects lines; `publish` sends a batch of them to whoever follows."""

    def __init__(self, publish: Publish) -> None:
        self._publish = publish
        self._stored: list[bytes] = []
        self._size = 0
        self._count = 0
        self._unsent: list[str] = []
        self._flusher: asyncio.Task[None] | None = None

    def write(self, text: str) -> None:
        """Add text, as one line or several."""
        for line in text.splitlines() or [""]:
            self._add(line[:MAX_LINE])

    def _add(self, line: str) -> None:
        if self._size > MAX_LOG_BYTES:
            return
        stored = f"{datetime.now(UTC).isoformat(timespec='microseconds')} {line}\n".encode()
        self._size += len(stored)
        if self._size > MAX_LOG_BYTES:
            stored = f"{datetime.now(UTC).isoformat(timespec='microseconds')} (the log is cut here)\n".encode()
            line = "(the log is cut here)"
        self._stored.append(stored)
        self._count += 1
        self._unsent.append(line)
        if self._flusher is None:
            self._flusher = asyncio.create_task(self._flush_soon())

    async def flush(self) -> None:
        """Send what was not sent."""
        while self._unsent:
            batch: list[str] = []
            size = 0
            while self._unsent and size < MAX_BATCH_BYTES:
                size += len(self._unsent[0].encode())
                batch.append(self._unsent.pop(0))
            first = self._count - len(self._unsent) - len(batch) + 1
            await self._publish(event_pb2.TaskLogged(first_line=first, lines=batch))

    async def close(self) -> bytes:
        """Send the rest, and return the whole log; empty where nothing was written."""
        if self._flusher is not None:
            self._flusher.cancel()
        await self.flush()
        return b"".join(self._stored)

    async def _flush_soon(self) -> None:
        await asyncio.sleep(FLUSH_SECONDS)
        self._flusher = None
        await self.flush()


def read_log(stored: bytes, attempt: int) -> Iterator[task_pb2.LogLine]:
    """Return the lines of a stored log."""
    for number, line in enumerate(stored.decode(errors="replace").splitlines(), start=1):
        moment, _, text = line.partition(" ")
        entry = task_pb2.LogLine(attempt=attempt, number=number, text=text)
        entry.time.FromDatetime(datetime.fromisoformat(moment))
        yield entry
