"""Changes of tasks: events go through the state machine, and rows, messages and announcements follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from uuid import UUID

from google.protobuf.message import Message

from services.bus.connection import Bus
from services.bus.topology import changed_subject, control_subject, on_device, task_subject
from services.tasks.api.dispatcher import Dispatcher
from services.tasks.api.metrics import count_step
from services.tasks.api.relay import Relay
from services.tasks.state.commands import Command
from services.tasks.state.machine import TERMINAL, Effect, Event, TaskSnapshot, apply
from services.tasks.state.queue import Dispatch
from services.tasks.state.rows import Change, OutboxItem, TaskCodec, TaskRow
from services.tasks.state.store import TaskStore


@dataclass(frozen=True, slots=True)
class Folded:
    """A row, what the machine makes of it after some events, and the effects that this asks for.

    `built` is the outcome from which a worker on the device goes on, if the task is handed on.
    """

    row: TaskRow
    before: TaskSnapshot
    snapshot: TaskSnapshot
    effects: frozenset[Effect]
    changed: bool
    built: bytes | None = None


class Settles(Protocol):
    """Somebody who sees to what follows from a task's end."""

    def settle(self, rows: Sequence[TaskRow]) -> None:
        """Take terminal rows."""


class Ledger:
    """The one road by which rows of a kind change after they were created."""

    def __init__(self, codec: TaskCodec, store: TaskStore, relay: Relay, dispatcher: Dispatcher, bus: Bus) -> None:
        self.codec = codec
        self.store = store
        self._relay = relay
        self._dispatcher = dispatcher
        self._bus = bus
        self._settler: Settles | None = None

    def settle_with(self, settler: Settles) -> None:
        """Set the settler, which hears of tasks that end."""
        self._settler = settler

    def fold(self, row: TaskRow, events: Iterable[Event]) -> Folded:
        """Apply events in order."""
        before = snapshot = self.codec.snapshot(row)
        effects: set[Effect] = set()
        for event in events:
            snapshot, asked = apply(snapshot, event)
            effects.update(asked)
        return Folded(row, before, snapshot, frozenset(effects), snapshot is not before)

    def change(
        self,
        folded: Folded,
        *,
        result: Message | None = None,
        shared_from: Message | None = None,
        action_key: bytes | None = None,
        outcome: bytes | None = None,
    ) -> Change:
        """Return the change of a row, with the messages that its effects need."""
        row = self.codec.advanced(
            folded.row,
            folded.snapshot,
            result=result,
            shared_from=shared_from,
            action_key=action_key,
            outcome=folded.built if outcome is None else outcome,
        )
        outbox = [self._cancel_signal(row)] if Effect.SIGNAL_CANCEL in folded.effects else []
        step = (folded.before, folded.snapshot)
        if Effect.DISPATCH not in folded.effects:
            return Change(folded.row, row, outbox, step=step)
        again = self.dispatch(row, folded.snapshot)
        return Change(folded.row, again.new, [*outbox, *again.outbox], again.dispatch, step)

    def dispatch(self, row: TaskRow, snapshot: TaskSnapshot) -> Change:
        """Return the change of a row that sends it to the workers again; to those on the device if it was handed on."""
        again, payload = self.codec.redispatch(row, snapshot)
        msg_id = f"{row.uid}:{again.dispatches}"
        if snapshot.handed_on is None:
            return Change(row, again, dispatch=Dispatch(row.uid, row.device, msg_id, payload))
        subject = task_subject(self.codec.kind.name, on_device(row.device), str(row.uid))
        item = OutboxItem(row.uid, subject, msg_id, payload)
        return Change(row, again, [item], Dispatch(row.uid, row.device, msg_id, handed_on=True))

    async def commit(self, changes: Sequence[Change], *, noted: bool = False) -> set[UUID]:
        """Write changes, publish their messages and notify watchers; returns the uids that were written.

        With `noted`, they are in the audit log as changes of the current call.
        """
        saved = await self.store.save(changes, datetime.now(UTC), noted=noted)
        ended: list[TaskRow] = []
        for change in changes:
            if change.new.uid not in saved:
                continue
            for item in change.outbox:
                self._relay.hand(item)
            self._dispatcher.changed(change.new.device, change.old.state, change.new.state)
            if change.step is not None:
                count_step(self.codec.kind.name, change.new.uid, change.new.device, *change.step)
            if change.dispatch is not None and not change.dispatch.handed_on:
                self._dispatcher.waits(change.new.device)
            subject = changed_subject(self.codec.kind.name, str(change.new.uid))
            await self._bus.notify(subject, f"{change.old.revision + 1} {change.new.state}".encode())
            if change.new.state in TERMINAL and (change.old.leading or change.old.held):
                ended.append(change.new._replace(revision=change.old.revision + 1, leading=change.old.leading))
        if ended and self._settler is not None:
            self._settler.settle(ended)
        return saved

    async def command(
        self,
        uid: UUID,
        command: Command,
        *,
        result: Message | None = None,
        shared_from: Message | None = None,
        action_key: bytes | None = None,
        outcome: bytes | None = None,
        noted: bool = False,
    ) -> TaskRow | None:
        """Apply a command to a task despite concurrent changes; returns the new row, None if the task is gone.

        With `noted`, the change is in the audit log.
        """
        while True:
            row = await self.store.get(uid)
            if row is None:
                return None
            folded = self.fold(row, [command])
            if not folded.changed:
                return row
            change = self.change(folded, result=result, shared_from=shared_from, action_key=action_key, outcome=outcome)
            if await self.commit([change], noted=noted):
                return await self.store.get(uid)

    def _cancel_signal(self, row: TaskRow) -> OutboxItem:
        subject = control_subject(self.codec.kind.name, str(row.uid))
        return OutboxItem(row.uid, subject, f"{row.uid}:cancel:{row.revision}", b"cancel")
