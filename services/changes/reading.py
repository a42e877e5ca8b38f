"""The stream of changes, read from a place in it on: after a restart, the same place gives the same changes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple, Self

import nats.errors
import nats.js.errors
import structlog
from lathe.watch.v1.change_pb2 import Change
from nats.js.api import StreamInfo

from services.bus.connection import Bus
from services.bus.listening import listening, wait_for_any
from services.bus.streams import BATCH, read_after
from services.bus.topology import CHANGES, CHANGES_KEPT_DAYS, change_subject, stored_subject
from services.platform.errors import failed_precondition, invalid_argument, unavailable

log = structlog.get_logger(__name__)

_AWAY = (nats.errors.Error, nats.js.errors.Error, OSError)
_RETRY_SECONDS = 1.0


class Place(NamedTuple):
    """A place in the stream.

    Attributes:
        stream: When the stream was made, in milliseconds: one that is made anew counts from 1 again.
        sequence: Of the last change that was read.
    """

    stream: int
    sequence: int

    @property
    def token(self) -> str:
        """The place as clients keep it."""
        return f"{self.stream:x}.{self.sequence:x}"

    @classmethod
    def of(cls, token: str) -> Self:
        """Return the place of a token; LatheError INVALID_ARGUMENT if it is none."""
        stream, _, sequence = token.partition(".")
        with contextlib.suppress(ValueError):
            place = cls(int(stream, 16), int(sequence, 16))
            if place.token == token and min(place) >= 0:
                return place
        raise invalid_argument("resume_token", "This is no token of a watch. Send the `resume_token` of a response.")


class Reading(NamedTuple):
    """A change with its place; without a change, the place up to which there is nothing new."""

    change: Change | None
    place: Place


async def newest_place(bus: Bus) -> Place:
    """Return the place after everything that is published; LatheError UNAVAILABLE if NATS does not answer."""
    info = await _info(bus)
    return Place(_made(info), info.state.last_seq)


async def check_place(bus: Bus, place: Place) -> None:
    """Refuse a place after which changes are missing.

    Raises:
        LatheError: FAILED_PRECONDITION, reason WATCH_EXPIRED; UNAVAILABLE if NATS does not answer.
    """
    info = await _info(bus)
    state = info.state
    if place.stream != _made(info) or not state.first_seq - 1 <= place.sequence <= state.last_seq:
        raise failed_precondition(
            "WATCH_EXPIRED",
            f"Changes are kept for {CHANGES_KEPT_DAYS} days, and what followed this token is gone. Begin again without "
            "the token; with `send_existing` you get what there is now.",
        )


async def changes_after(bus: Bus, place: Place, beat: float) -> AsyncIterator[list[Reading]]:
    """Yield what is published after a place, in order and without an end, and something at least every `beat` seconds.

    Raises:
        LatheError: FAILED_PRECONDITION, reason WATCH_EXPIRED, if the stream is made anew meanwhile.
    """
    async with listening(bus, stored_subject("*", "*")) as stored:
        while True:
            stored.clear()
            try:
                batch = await read_after(bus, CHANGES, change_subject("*", "*"), place.sequence)
            except _AWAY as error:
                log.info("changes.unread", error=str(error) or type(error).__name__)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            if batch:
                yield [Reading(Change.FromString(data), Place(place.stream, sequence)) for sequence, data in batch]
                place = place._replace(sequence=batch[-1][0])
            if len(batch) < BATCH and not await wait_for_any(stored, beat):
                await check_place(bus, place)
                yield [Reading(None, place)]


async def _info(bus: Bus) -> StreamInfo:
    try:
        return await bus.js.stream_info(CHANGES)
    except _AWAY as error:
        raise unavailable("NATS", "The message bus does not answer. Try again.") from error


def _made(info: StreamInfo) -> int:
    assert info.created is not None
    return int(info.created.timestamp() * 1000)
