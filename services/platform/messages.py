"""Size limits, so that no message exceeds gRPC's default limit of 4 MiB."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from google.protobuf.message import Message

__all__ = [
    "MAX_MESSAGE_BYTES",
    "MAX_OUTCOME_BYTES",
    "MAX_PAGE_BYTES",
    "MAX_RESOLVED_BYTES",
    "MAX_RESOURCE_BYTES",
    "MAX_TASK_BYTES",
    "reduced",
]

M = TypeVar("M", bound=Message)

MAX_MESSAGE_BYTES = 4 << 20
"""What gRPC takes by default."""
MAX_RESOURCE_BYTES = 3_750_000
"""A resource: some calls return more than that."""
MAX_PAGE_BYTES = 3_000_000
"""The entries of a page, but for a single one that is larger."""
MAX_RESOLVED_BYTES = 2_250_000
"""A resolved template, which its task holds."""
MAX_TASK_BYTES = 2_500_000
"""What a task holds from the start: its specification and what was resolved from it."""
MAX_OUTCOME_BYTES = 1_200_000
"""What a worker may report. The rest of MAX_RESOURCE_BYTES and more is left to the attempts and their failures."""


def reduced(message: M, details: Iterable[str], most: int = MAX_RESOURCE_BYTES) -> M:
    """Return the message; if it is larger than `most` bytes, without as many of its details as it takes.

    Resources stored before these limits existed must not make a page, or a watch, fail.

    Args:
        message: Is changed.
        details: Names of fields that may be left out; the largest goes first.
        most: In bytes.
    """
    if message.ByteSize() <= most:
        return message
    alone = {field.name: type(message)() for field, _ in message.ListFields() if field.name in set(details)}
    for name, only in alone.items():
        only.CopyFrom(message)
        for field, _ in message.ListFields():
            if field.name != name:
                only.ClearField(field.name)
    for name in sorted(alone, key=lambda name: alone[name].ByteSize(), reverse=True):
        message.ClearField(name)
        if message.ByteSize() <= most:
            break
    return message
