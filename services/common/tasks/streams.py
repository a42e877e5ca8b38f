"""The two streaming verbs: a task's changes, and its log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from lathe.type.v1 import event_pb2, task_pb2
from lathe.type.v1.digest_pb2 import Digest
from nats.aio.msg import Msg

from services.common.bus.connection import Bus
from services.common.bus.direct import BATCH, read_after
from services.common.bus.topology import EVENTS, LOG_EVENT, changed_subject, event_subject
from services.common.errors import LatheError, invalid_argument
from services.common.tasks.handlers import TaskHandlers
from services.common.tasks.machine import TERMINAL
from services.common.tasks.tasklog import read_log


class BlobReader(Protocol):
    """The content store, as logs are read from it."""

    async def read(self, digest: Digest) -> bytes:
        """Return a blob."""


@dataclass
class _Place:
    """How far a log is read: attempt, last line sent, and the sequence of the stream up to which it was looked at."""

    attempt: int
    line: int
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
        """Yield the task now and after every change; ends with its terminal state."""
        task_id = request.name.partition("/")[2]
        newest = (await self._handlers.row(request.name)).revision
        # A revision that the task never had says nothing of what the client knows, so that it gets all there is.
        seen = request.after_revision if request.after_revision <= newest else 0
        async with self._listening(changed_subject(self._kind, task_id)) as changed:
            while True:
                changed.clear()
                row = await self._handlers.row(request.name)
                if row.revision > seen:
                    seen = row.revision
                    yield self._handlers.present(row)
                if row.state in TERMINAL:
                    return
                await _wait(changed, self._poll)

    async def logs(self, request: Any) -> AsyncIterator[task_pb2.LogLine]:
        """Yield the log of an attempt; with `follow`, also what comes until it ends, or until the task ends."""
        task_id = request.name.partition("/")[2]
        place = _Place(request.attempt, request.after_line)
        first = await self._handlers.get(request)
        if request.attempt > len(first.attempts) and request.attempt > max(
            (a.number for a in first.attempts), default=0
        ):
            raise _no_such_attempt(request, first)
        subjects = (changed_subject(self._kind, task_id), event_subject(self._kind, task_id, LOG_EVENT))
        async with self._listening(*subjects) as changed:
            while True:
                changed.clear()
                task = await self._handlers.get(request)
                ended = True
                for attempt in _attempts_from(task, place, single=request.attempt > 0 or not request.follow):
                    if attempt.number != place.attempt:
                        place = _Place(attempt.number, place.line if place.attempt == 0 else 0)
                    ended = attempt.outcome != task_pb2.ATTEMPT_OUTCOME_UNSPECIFIED
                    async for line in self._lines(task_id, attempt, place):
                        yield line
                over = task.status.state in TERMINAL or (request.attempt > 0 and ended)
                if over or not request.follow:
                    return
                await _wait(changed, self._poll)

    async def _lines(self, task_id: str, attempt: task_pb2.Attempt, place: _Place) -> AsyncIterator[task_pb2.LogLine]:
        if attempt.log.sha256:
            for line in read_log(await self._blobs.read(attempt.log), attempt.number):
                if line.number > place.line:
                    place.line = line.number
                    yield line
            return
        subject = event_subject(self._kind, task_id, LOG_EVENT)
        while True:
            batch = await read_after(self._bus, EVENTS, subject, place.sequence)
            for sequence, data in batch:
                place.sequence = sequence
                event = event_pb2.TaskEvent.FromString(data)
                if event.attempt != attempt.number or event.worker != attempt.worker:
                    continue
                for number, text in enumerate(event.logged.lines, start=event.logged.first_line):
                    if number > place.line:
                        place.line = number
                        yield task_pb2.LogLine(attempt=event.attempt, number=number, time=event.time, text=text)
            if len(batch) < BATCH:
                return

    @asynccontextmanager
    async def _listening(self, *subjects: str) -> AsyncIterator[asyncio.Event]:
        """Give an event that is set whenever something arrives on one of the subjects."""
        changed = asyncio.Event()

        async def wake(_: Msg) -> None:
            changed.set()

        subscriptions = [await self._bus.subscribe(subject, wake) for subject in subjects]
        try:
            yield changed
        finally:
            for subscription in subscriptions:
                if not self._bus.nc.is_closed:
                    await subscription.unsubscribe()


def _attempts_from(task: Any, place: _Place, *, single: bool) -> list[task_pb2.Attempt]:
    """Return the attempts to read now: the newest at first, then also those that follow it."""
    attempts = list(task.attempts)
    if place.attempt == 0:
        return attempts[-1:]
    return [each for each in attempts if each.number == place.attempt or (not single and each.number > place.attempt)]


def _no_such_attempt(request: Any, task: Any) -> LatheError:
    numbers = ", ".join(str(attempt.number) for attempt in task.attempts) or "none yet"
    return invalid_argument("attempt", f"'{request.name}' has no attempt {request.attempt}; it has {numbers}.")


async def _wait(changed: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return
