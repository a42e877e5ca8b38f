"""From the table of waiting tasks to the queues of workers in NATS, by priority, fair share and age.

Only as many tasks are sent as the live workers of a device can soon take (`turns.Flow`). If nothing waits and there is
room, a new task is written as sent and published from memory, at once. Otherwise it waits in the table, and a pass
chooses: after a change makes room, and every now and then, since another replica may have died. What a process marked
as sent and could not publish is found by the sweeper, like every other lost message.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import asyncpg
import structlog

from services.bus.connection import Bus, BusUnavailableError, MessageTooLargeError, SubjectTakenError
from services.bus.topology import task_subject
from services.database.pool import Connection, Database
from services.platform.background import together
from services.platform.quotas import CachedQuotas, Table
from services.tasks.api.lines import Line, Place
from services.tasks.api.workers import WorkersView
from services.tasks.state.queue import (
    Dispatch,
    TaskQueue,
    first,
    first_permitted,
    held,
    lock,
    running,
    take,
    take_turns,
)
from services.tasks.state.turns import Waiting, Weights

log = structlog.get_logger(__name__)

BATCH = 256
_BUSY_SECONDS = 0.02
_DATABASE_AWAY = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)


class Dispatcher:
    """Sends the tasks of one kind. `poll` is in seconds."""

    def __init__(
        self,
        database: Database,
        queue: TaskQueue,
        bus: Bus,
        workers: WorkersView,
        kind: str,
        *,
        poll: float = 1.0,
        weights: Weights | None = None,
        quotas: CachedQuotas | None = None,
    ) -> None:
        self._quotas = quotas or CachedQuotas()
        self._database = database
        self._queue = queue
        self._bus = bus
        self._workers = workers
        self._kind = kind
        self._poll_seconds = poll
        self._weights = weights or {}
        self._lines: dict[str, Line] = {}
        self._woken: set[str] = set()
        self._wake = asyncio.Event()
        self._publishing: set[asyncio.Task[None]] = set()
        # An old look must not be believed after a newer choice.
        self._looking = asyncio.Lock()
        workers.on_arrival(self.wake)

    @contextmanager
    def reserved(self, device: str, *, at_once: bool = True) -> Iterator[Place]:
        """Reserve a place on the way to the workers while a new task is written, if there is one.

        One that may not be sent `at_once` waits in the table, where it is counted before it is sent.
        """
        line = self._line(device)
        fresh = time.monotonic() - line.looked < 2 * self._poll_seconds
        free = at_once and not line.backlog and fresh and self._bus.connected and self._room(device, line) > 0
        place = Place(free)
        line.sent += free
        line.reserved += free
        try:
            yield place
        finally:
            line.reserved -= free
            line.sent -= free and place.taken is None
        if place.taken is not None:
            if free:
                self._send_soon(place.taken)
            else:
                self.waits(device)

    def _send_soon(self, dispatch: Dispatch) -> None:
        task = asyncio.create_task(self._send([dispatch]))
        self._publishing.add(task)
        task.add_done_callback(self._publishing.discard)

    def wake(self, device: str) -> None:
        """Choose for a device soon: something waits, or there is room."""
        self._woken.add(device)
        self._wake.set()

    def waits(self, device: str) -> None:
        """Note that a row waits for a device."""
        line = self._line(device)
        line.backlog = True
        if self._room(device, line) > 0:
            self.wake(device)

    def changed(self, device: str, before: int, after: int) -> None:
        """Note that a task went from one state to another."""
        line = self._line(device)
        line.changed(before, after)
        if line.backlog and self._room(device, line) > 0:
            self.wake(device)

    async def run(self) -> None:
        """Send until cancelled."""
        await together(self._passes(), self._poll())

    async def _passes(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            woken, self._woken = self._woken, set()
            try:
                await asyncio.gather(*(self._pass(device) for device in woken))
            except _DATABASE_AWAY as error:
                log.debug("dispatch.deferred", error=str(error) or type(error).__name__)
            await asyncio.sleep(_BUSY_SECONDS)

    async def _poll(self) -> None:
        while True:
            try:
                await self.look()
            except _DATABASE_AWAY as error:
                log.debug("dispatch.unread", error=str(error) or type(error).__name__)
            await asyncio.sleep(self._poll_seconds)

    async def look(self) -> None:
        """Look at the table, and wake the devices for which tasks wait."""
        async with self._looking:
            devices = {*self._lines, *await self._queue.waiting_devices()}
            for look in await self._queue.look(devices):
                line = self._line(look.device)
                line.observe(look)
                if line.backlog:
                    self.wake(look.device)

    async def _pass(self, device: str) -> None:
        """Choose and send what there is room for, as often as there is room and something waits."""
        while self._bus.connected and (chosen := await self._choose(device)):
            await self._send(chosen)
            if len(chosen) < BATCH:
                return

    async def _choose(self, device: str) -> list[Dispatch]:
        line = self._line(device)
        limits = await self._quotas.table()
        async with self._looking, self._database.transaction() as connection:
            if not await lock(connection, self._kind, device):
                self._again(device)
                return []
            for look in await self._queue.look([device], connection):
                line.observe(look)
            room = min(self._room(device, line), BATCH)
            if not line.backlog or room < 1:
                return []
            waiting = await self._permitted(connection, device, room + 1, limits)
            chosen = line.turns.choose(waiting, await held(connection, device), room)
            taken = await take(connection, [each.task for each in chosen])
            line.sent += len(taken)
            line.backlog = len(waiting) > len(chosen)
        return taken

    async def _permitted(self, connection: Connection, device: str, count: int, limits: Table) -> list[Waiting]:
        """Return the oldest waiting tasks of each owner and rank, of those that their projects' quotas let run."""
        if not limits.any_running:
            return await first(connection, device, count)
        # What is chosen for another device counts, too.
        await take_turns(connection, self._kind)
        used = await running(connection)
        left = {
            project: limit - count for project, count in used.items() if (limit := limits.of(project).running_tasks)
        }
        waiting = []
        for each in await first_permitted(connection, device, count, [name for name in left if left[name] <= 0]):
            if limit := limits.of(each.project).running_tasks:
                left[each.project] = left.get(each.project, limit) - 1
                if left[each.project] < 0:
                    continue
            waiting.append(each)
        return waiting

    def _again(self, device: str) -> None:
        """Look once more when the replica that chooses just now is done."""
        asyncio.get_running_loop().call_later(_BUSY_SECONDS, self.wake, device)

    async def _send(self, batch: Sequence[Dispatch]) -> None:
        sent = await asyncio.gather(*(self._publish(each) for each in batch))
        failed = [each for each, published in zip(batch, sent, strict=True) if not published]
        if failed:
            try:
                await self._queue.put_back([each.task for each in failed])
            except _DATABASE_AWAY as error:
                log.info("dispatch.lost", count=len(failed), error=str(error) or type(error).__name__)

    async def _publish(self, dispatch: Dispatch) -> bool:
        subject = task_subject(self._kind, dispatch.device, str(dispatch.task))
        try:
            await self._bus.publish(subject, dispatch.payload or b"", dispatch.msg_id)
        except SubjectTakenError:
            return True  # its message still waits there
        except BusUnavailableError as error:
            log.debug("dispatch.deferred", subject=subject, error=str(error))
            return False
        except MessageTooLargeError as error:
            # The server took more when the task was created.
            log.error("dispatch.too_large", subject=subject, error=str(error))
            return True
        return True

    def _room(self, device: str, line: Line) -> int:
        return line.flow.room(time.monotonic(), self._workers.slots(device), line.running, line.sent)

    def _line(self, device: str) -> Line:
        return self._lines.setdefault(device, Line(self._weights))
