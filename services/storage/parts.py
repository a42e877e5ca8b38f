"""The parts in which a file is sent."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Span", "StagedPart", "spans"]

MEBIBYTE = 1 << 20
# The URLs of all parts travel in one gRPC message of at most 4 MiB, which holds some 6 000.
MAX_PARTS = 2000
# Small enough to send again after an interruption, large enough that the requests cost nothing.
SMALLEST_PART = 16 * MEBIBYTE
LARGEST_FILE = 5 << 40


@dataclass(frozen=True)
class Span:
    """One part of a file: its number from 1, where it begins, and its size in bytes."""

    number: int
    offset: int
    size: int


@dataclass(frozen=True)
class StagedPart:
    """One part of an upload: its place in the file, whether it has arrived, and else the URL to PUT it to."""

    span: Span
    received: bool
    url: str


def spans(size: int) -> list[Span]:
    """Return the parts of a file of `size` bytes: all of one size but the last; none for an empty file."""
    if not 0 <= size <= LARGEST_FILE:
        raise ValueError(f"{size} bytes are not between 0 and 5 TiB")
    even = -(-size // MAX_PARTS)
    part = max(SMALLEST_PART, -(-even // MEBIBYTE) * MEBIBYTE)
    return [
        Span(number, offset, min(part, size - offset)) for number, offset in enumerate(range(0, size, part), start=1)
    ]
