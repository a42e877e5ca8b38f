"""Tasks whose message was delivered as often as it may be, without an answer: every one of their workers died."""

from __future__ import annotations

import json
from uuid import UUID

import structlog
from google.protobuf.message import DecodeError
from lathe.internal.v1 import event_pb2
from nats.aio.msg import Msg

from services.bus.connection import Bus
from services.bus.pull import Puller
from services.bus.streams import message_at, remove_message
from services.bus.topology import ADVISORIES, on_device, task_subject
from services.tasks.api.ledger import Ledger
from services.tasks.state.commands import DeadLettered
from services.tasks.state.rows import timestamp

log = structlog.get_logger(__name__)


class DeadLetters:
    """Fails the tasks of one kind that NATS gave up."""

    def __init__(self, ledger: Ledger, bus: Bus) -> None:
        self._ledger = ledger
        self._bus = bus
        self._kind = ledger.codec.kind.name

    async def run(self) -> None:
        """Handle advisories until cancelled."""
        async with Puller(self._bus, ADVISORIES, f"{self._kind}-deadletters", 16) as puller:
            while True:
                for message in await puller.take(16):
                    try:
                        await self._handle(message)
                    finally:
                        await puller.release()

    async def _handle(self, message: Msg) -> None:
        try:
            advisory = json.loads(message.data)
            consumer, sequence, deliveries = advisory["consumer"], advisory["stream_seq"], advisory["deliveries"]
            data = await message_at(self._bus, int(sequence)) if consumer.startswith(f"{self._kind}-") else None
            assignment = event_pb2.TaskAssignment.FromString(data or b"")
        except (ValueError, KeyError, TypeError, AttributeError, DecodeError):
            log.exception("deadletters.unreadable", subject=message.subject)
            await message.term()
            return
        if assignment.kind == self._kind:
            await self._fail(assignment, int(deliveries))
        await message.ack()

    async def _fail(self, assignment: event_pb2.TaskAssignment, deliveries: int) -> None:
        log.warning("task.dead_letter", task_id=assignment.task_id, deliveries=deliveries)
        command = DeadLettered(timestamp(), assignment.attempt_base + deliveries)
        await self._ledger.command(UUID(assignment.task_id), command)
        queue = on_device(assignment.device) if assignment.HasField("built") else assignment.device
        await remove_message(self._bus, task_subject(self._kind, queue, assignment.task_id))
