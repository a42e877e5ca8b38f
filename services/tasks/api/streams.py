"""The two streaming verbs: a task's changes, and its log."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from lathe.internal.v1 import event_pb2
from lathe.type.v1 import task_pb2
from lathe.type.v1.digest_pb2 import Digest

from services.bus.connection import Bus
from services.bus.listening import listening, wait_for_any
from services.bus.streams import BATCH, read_after
from services.bus.topology import EVENTS, LOG_EVENT, changed_subject, event_subject
from services.platform.errors import LatheError, invalid_argument
from services.tasks.api.handlers import TaskHandlers
from services.tasks.state.machine import TERMINAL
from services.tasks.state.tasklog import read_log

LINES_AT_ONCE = 1000
# Large enough to cost little for each line, small enough to show a log while it comes.
BATCH_BYTES = 256 << 10


class BlobReader(Protocol):
    """The content store, as logs are read from it."""

    async def read(self, digest: Digest) -> bytes:
        """Return a blob."""


@dataclass
class _Place:
    """The position up to which a log is read.

    Attributes:
        attempt: The attempt.
        line: The last line that was sent.
        tail: How many of the last lines to send first; 0 for all, and after they were sent.
        sequence: Of the stream, up to which it was looked at.
    """

    attempt: int
    line: int
    tail: int = 0
    sequence: int = 0


class TaskStreams:
    """Watch and StreamLogs of one kind. `poll` is in seconds."""

    def __init__(self, handlers: TaskHandlers, kind: str, bus: Bus, blobs: BlobReader, poll: float) -> None:
        self._handlers = handlers
        self._kind = kind
        self._bus = bus
        self._blobs = blobs
        self._poll = poll

    async def watch(self, request: Any) -> AsyncIterator[Any]:
        """Yield the task now and after every change, of its place in the queue too; ends with its terminal state."""
        task_id = request.name.partition("/")[2]
        newest = (await self._handlers.row(request.name)).revision
        # A revision that the task never had says nothing of what the client knows, so that it gets all there is.
        seen = request.after_revision if request.after_revision <= newest else 0
        position = 0
        async with listening(self._bus, changed_subject(self._kind, task_id)) as changed:
            while True:
                changed.clear()
                row = await self._handlers.row(request.name)
                task = await self._handlers.seen(row)
                if row.revision > seen or 0 < task.status.queue.position < position:
                    yield task
                seen, position = max(seen, row.revision), task.status.queue.position
                if row.state in TERMINAL:
                    return
                await wait_for_any(changed, self._poll)

    async def logs(self, request: Any) -> AsyncIterator[task_pb2.LogLines]:
        """Yield the log of an attempt; with `follow`, also new lines until it or the task ends."""
        async for lines in self._log(request):
            for message in _batches(lines):
                yield message

    async def _log(self, request: Any) -> AsyncIterator[list[task_pb2.LogLine]]:
        task_id = request.name.partition("/")[2]
        place = _Place(request.attempt, request.after_line, request.tail_lines)
        first = await self._handlers.get(request.name)
        if request.attempt > len(first.attempts) and request.attempt > max(
            (a.number for a in first.attempts), default=0
        ):
            raise _no_such_attempt(request, first)
        subjects = (changed_subject(self._kind, task_id), event_subject(self._kind, task_id, LOG_EVENT))
        async with listening(self._bus, *subjects) as changed:
            while True:
                changed.clear()
                task = await self._handlers.get(request.name)
                ended = True
                for attempt in _attempts_from(task, place, single=request.attempt > 0 or not request.follow):
                    if attempt.number != place.attempt:
                        first_one = place.attempt == 0
                        place = _Place(attempt.number, place.line if first_one else 0, place.tail if first_one else 0)
                    ended = attempt.outcome != task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED
                    async for lines in self._lines(task_id, attempt, place):
                        yield lines
                over = task.status.state in TERMINAL or (request.attempt > 0 and ended)
                if over or not request.follow:
                    return
                await wait_for_any(changed, self._poll)

    async def _lines(
        self, task_id: str, attempt: task_pb2.Attempt, place: _Place
    ) -> AsyncIterator[list[task_pb2.LogLine]]:
        if attempt.log.sha256:
            lines = read_log(await self._blobs.read(attempt.log), attempt.number, place.line, place.tail)
            while chunk := list(islice(lines, LINES_AT_ONCE)):
                place.line = chunk[-1].number
                yield chunk
        elif place.tail:
            last = deque[task_pb2.LogLine](maxlen=place.tail)
            async for chunk in self._live_lines(task_id, attempt, place):
                last.extend(chunk)
            yield list(last)
        else:
            async for chunk in self._live_lines(task_id, attempt, place):
                yield chunk
        place.tail = 0  # from now on it is what follows

    async def _live_lines(
        self, task_id: str, attempt: task_pb2.Attempt, place: _Place
    ) -> AsyncIterator[list[task_pb2.LogLine]]:
        subject = event_subject(self._kind, task_id, LOG_EVENT)
        while True:
            batch = await read_after(self._bus, EVENTS, subject, place.sequence)
            lines: list[task_pb2.LogLine] = []
            for sequence, data in batch:
                place.sequence = sequence
                event = event_pb2.TaskEvent.FromString(data)
                if event.attempt != attempt.number or event.worker != attempt.worker:
                    continue
                for number, text in enumerate(event.logged.lines, start=event.logged.first_line):
                    if number > place.line:
                        place.line = number
                        lines.append(task_pb2.LogLine(attempt=event.attempt, number=number, time=event.time, text=text))
            yield lines
            if len(batch) < BATCH:
                return


def _batches(lines: Iterable[task_pb2.LogLine]) -> Iterator[task_pb2.LogLines]:
    """Return the lines as few messages of bounded size."""
    batch, size = task_pb2.LogLines(), 0
    for line in lines:
        if size > BATCH_BYTES:
            yield batch
            batch, size = task_pb2.LogLines(), 0
        batch.lines.append(line)
        size += line.ByteSize()
    if batch.lines:
        yield batch


def _attempts_from(task: Any, place: _Place, *, single: bool) -> list[task_pb2.Attempt]:
    """Return the attempts to read now: the newest at first, then also those that follow it."""
    attempts = list(task.attempts)
    if place.attempt == 0:
        return attempts[-1:]
    return [each for each in attempts if each.number == place.attempt or (not single and each.number > place.attempt)]


def _no_such_attempt(request: Any, task: Any) -> LatheError:
    numbers = ", ".join(str(attempt.number) for attempt in task.attempts) or "none yet"
    return invalid_argument("attempt", f"'{request.name}' has no attempt {request.attempt}; it has {numbers}.")
