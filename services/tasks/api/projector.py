"""From events to rows: the only way by which workers change a task.

Events arrive in batches over a durable consumer that all replicas share. One batch is one read and one write; its
messages are acknowledged after the write, so none is lost, and the state machine ignores what comes twice. Two replicas
that meet on one task see each other by the row's revision, and the slower one starts over with the new row.

A success first has effects outside (kind.complete). They run for all tasks of a batch at once and usually end within
GRACE; a task whose effects take longer is written as REGISTERING and finishes by itself, without delaying the others.
In every case the outcome is written under its action key with the first change after the success.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from uuid import UUID

import structlog
from google.protobuf.message import DecodeError
from lathe.internal.v1 import event_pb2
from nats.aio.msg import Msg

from services.bus.connection import Bus
from services.bus.pull import Puller
from services.bus.topology import EVENTS
from services.tasks.api.cache import action_key
from services.tasks.api.claims import Claims, Pace
from services.tasks.api.completion import MAX_FAULTS, Completion, Done, Later, Refused, complete
from services.tasks.api.handover import Handover
from services.tasks.api.ledger import Folded, Ledger
from services.tasks.state.commands import Command, Completed, CompletionFailed, HandOn
from services.tasks.state.machine import Effect, apply
from services.tasks.state.rows import Change, TaskRow, timestamp

log = structlog.get_logger(__name__)

BATCH = 256
CAPACITY = 1024
GRACE_SECONDS, BUSY_RETRY_SECONDS = 0.05, 0.5
# Recordings in flight up to which a sweep begins others: a sibling that hangs must not hold up the sweep, nor face all.
RESUMED_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Received:
    """An event and the message that brought it."""

    message: Msg
    event: event_pb2.TaskEvent


class Projector:
    """Applies the events of one kind."""

    def __init__(self, ledger: Ledger, bus: Bus, claims: Claims, pace: Pace, handover: Handover) -> None:
        self._ledger = ledger
        self._handover = handover
        self._claims = claims
        self._pace = pace
        self._kind = ledger.codec.kind
        self._bus = bus
        self._completing: dict[UUID, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Apply events until cancelled."""
        try:
            async with Puller(self._bus, EVENTS, f"{self._kind.name}-projector", CAPACITY) as puller:
                while True:
                    await self._pace.wait()
                    messages = await puller.take(BATCH)
                    try:
                        await self._project(messages)
                    finally:
                        self._pace.done(len(messages))
                        await puller.release(len(messages))
        finally:
            for task in self._completing.values():
                task.cancel()
            self._completing.clear()  # one that is cancelled before it began does not take itself out

    async def _project(self, messages: list[Msg]) -> None:
        groups = await self._grouped(messages)
        # A task that is overtaken keeps its completion: what was begun outside is not begun twice.
        started: dict[UUID, asyncio.Task[Completion]] = {}
        claims = self._claims.take(groups)
        while groups:
            rows = await self._ledger.store.load(groups)
            for uid in groups.keys() - rows.keys():
                await _acknowledge(groups.pop(uid))  # the task is deleted
            overtaken = await self._apply(groups, claims, rows, started)
            groups = {uid: groups[uid] for uid in overtaken}

    async def _grouped(self, messages: list[Msg]) -> dict[UUID, list[Received]]:
        groups: dict[UUID, list[Received]] = defaultdict(list)
        for message in messages:
            try:
                event = event_pb2.TaskEvent.FromString(message.data)
                uid = UUID(event.task_id)
            except (DecodeError, ValueError):
                log.error("projector.unreadable", subject=message.subject)
                await message.term()
                continue
            if uid in self._completing:
                # Its success is being recorded; what comes after that waits its turn.
                await message.nak(delay=BUSY_RETRY_SECONDS)
                continue
            groups[uid].append(Received(message, event))
        return groups

    async def _apply(
        self,
        groups: dict[UUID, list[Received]],
        claims: dict[UUID, event_pb2.TaskEvent],
        rows: dict[UUID, TaskRow],
        started: dict[UUID, asyncio.Task[Completion]],
    ) -> set[UUID]:
        """Apply the events of each task and write them; returns the tasks on which somebody else was faster."""
        folded: dict[UUID, Folded] = {}
        successes: dict[UUID, Received] = {}
        for uid, group in groups.items():
            events = [each.event for each in group]
            fold = self._ledger.fold(rows[uid], [claims[uid], *events] if uid in claims else events)
            success = _success(group, fold)
            if success is not None:
                successes[uid] = success
            folded[uid] = self._handed_on(fold, success)
        completions = self._completions(successes, folded, started)
        if completions:
            await asyncio.wait(completions.values(), timeout=GRACE_SECONDS)
        # Decided once: a completion that ends while the rows are written is recorded by `_finish`, like a slower one.
        ended = {uid: completion.result() for uid, completion in completions.items() if completion.done()}
        changes: list[Change] = []
        quiet: list[UUID] = []
        for uid, fold in folded.items():
            change = self._change(fold, successes[uid] if uid in completions else None, ended.get(uid))
            if change is None:
                quiet.append(uid)
            else:
                changes.append(change)
        saved = await self._ledger.commit(changes)
        for uid in [*saved, *quiet]:
            await self._settle_messages(uid, groups[uid], successes.get(uid), completions.get(uid), ended.get(uid))
        return groups.keys() - saved - set(quiet)

    def _handed_on(self, fold: Folded, success: Received | None) -> Folded:
        """Return a task whose success is to be recorded as handed on to a worker on the device, if that is wanted."""
        if success is None or Effect.COMPLETE not in fold.effects:
            return fold
        if not self._handover.wanted(fold.row, success.event):
            return fold
        snapshot, effects = apply(fold.snapshot, HandOn(timestamp(), success.event.attempt))
        if snapshot is fold.snapshot:
            return fold
        left = (fold.effects - {Effect.COMPLETE}) | set(effects)
        return replace(fold, snapshot=snapshot, effects=left, built=success.event.succeeded.outcome.value)

    def _completions(
        self,
        successes: Mapping[UUID, Received],
        folded: dict[UUID, Folded],
        started: dict[UUID, asyncio.Task[Completion]],
    ) -> dict[UUID, asyncio.Task[Completion]]:
        """Return the completions that the tasks ask for, begun in this round or in an earlier one."""
        wanted = {uid for uid, fold in folded.items() if Effect.COMPLETE in fold.effects and not fold.snapshot.terminal}
        for uid, fold in folded.items():
            if uid in wanted and uid not in started:
                success = successes[uid]
                row = self._ledger.codec.advanced(fold.row, fold.snapshot)
                task = self._ledger.codec.message(row)
                delivery = success.message.metadata.num_delivered
                started[uid] = asyncio.create_task(complete(self._kind, task, success.event, row.assignment, delivery))
        return {uid: started[uid] for uid in wanted}

    def _change(self, fold: Folded, success: Received | None, ended: Completion | None) -> Change | None:
        """Return the change of a row after its events, and after its completion if that has ended already."""
        if success is None:
            return self._ledger.change(fold) if fold.changed else None
        succeeded = success.event.succeeded
        key = action_key(fold.row.work_key, succeeded.environment)
        command = _command(ended, success.event.attempt)
        if command is None:
            change = self._ledger.change(fold, outcome=succeeded.outcome.value, action_key=key)
            return change if fold.changed else None
        snapshot, effects = apply(fold.snapshot, command)
        after = replace(fold, snapshot=snapshot, effects=fold.effects | set(effects), changed=True)
        result = ended.result if isinstance(ended, Done) else None
        return self._ledger.change(after, result=result, outcome=succeeded.outcome.value, action_key=key)

    async def _settle_messages(
        self,
        uid: UUID,
        group: list[Received],
        success: Received | None,
        completion: asyncio.Task[Completion] | None,
        ended: Completion | None,
    ) -> None:
        if completion is None or success is None:
            await _acknowledge(group)
        elif ended is None:
            await _acknowledge([each for each in group if each is not success])
            self._completing[uid] = asyncio.create_task(self._finish(uid, success, completion))
        elif isinstance(ended, Later):
            await _acknowledge([each for each in group if each is not success])
            await success.message.nak(delay=ended.delay)
        else:
            await _acknowledge(group)

    async def _finish(self, uid: UUID, success: Received, completion: asyncio.Task[Completion]) -> None:
        """Wait for a completion that took longer than the grace, and record it."""
        try:
            ended = await completion
            if isinstance(ended, Later):
                await success.message.nak(delay=ended.delay)
                return
            await self._record(uid, success.event.attempt, ended)
            await success.message.ack()
        except Exception:
            # Not acknowledged: the event comes again, here or at another replica.
            log.exception("projector.finish_failed", task_id=str(uid))
        finally:
            self._completing.pop(uid, None)

    async def _record(self, uid: UUID, attempt: int, ended: Completion) -> None:
        command = _command(ended, attempt)
        if command is not None:
            await self._ledger.command(uid, command, result=ended.result if isinstance(ended, Done) else None)

    def resume(self, row: TaskRow) -> None:
        """Begin to record a success whose event is lost, from the outcome that its row keeps."""
        if row.outcome is not None and row.uid not in self._completing and len(self._completing) < RESUMED_AT_ONCE:
            self._completing[row.uid] = asyncio.create_task(self._resume(row, row.outcome))

    async def _resume(self, row: TaskRow, outcome: bytes) -> None:
        codec = self._ledger.codec
        event = event_pb2.TaskEvent(task_id=str(row.uid), attempt=codec.snapshot(row).attempt)
        event.succeeded.outcome.Pack(self._kind.outcome_type.FromString(outcome))
        try:
            # A fault of the kind had its tries while the event was there.
            ended = await complete(self._kind, codec.message(row), event, row.assignment, MAX_FAULTS)
            await self._record(row.uid, event.attempt, ended)
        except Exception:
            # The next sweep tries again.
            log.exception("projector.resume_failed", task_id=str(row.uid))
        finally:
            self._completing.pop(row.uid, None)


def _command(ended: Completion | None, attempt: int) -> Command | None:
    match ended:
        case Done():
            return Completed(timestamp(), attempt)
        case Refused(failure):
            return CompletionFailed(timestamp(), attempt, failure)
        case _:
            return None


def _success(group: list[Received], fold: Folded) -> Received | None:
    """Return the success of a task's newest attempt among its events; those of others than its worker are ignored."""
    if not fold.snapshot.attempts:
        return None
    newest = fold.snapshot.attempts[-1]
    sent = ((each, each.event) for each in group if each.event.WhichOneof("event") == "succeeded")
    own = (each for each, event in sent if (event.attempt, event.worker) == (newest.number, newest.worker))
    return next(own, None)


async def _acknowledge(group: list[Received]) -> None:
    for each in group:
        await each.message.ack()
