"""How a file is cut into the parts of a multipart upload."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MAX_PARTS", "Span", "spans"]

MEBIBYTE = 1 << 20
# S3 allows 10 000 parts of 5 MiB to 5 GiB, and 5 TiB in all. The URLs of all parts travel in one gRPC message of at
# most 4 MiB, which holds some 6 000.
MAX_PARTS = 2000
# Small enough to send again after an interruption, large enough that the requests cost nothing.
SMALLEST_PART = 16 * MEBIBYTE
LARGEST_FILE = 5 << 40


@dataclass(frozen=True)
class Span:
    """One part: its number from 1, where it begins in the file, and its size in bytes."""

    number: int
    offset: int
    size: int


def spans(size: int, smallest: int = SMALLEST_PART, most: int = MAX_PARTS) -> list[Span]:
    """Return the parts of a file of `size` bytes: all of one size but the last; none for an empty file."""
    if not 0 <= size <= LARGEST_FILE:
        raise ValueError(f"{size} bytes are not between 0 and 5 TiB")
    even = -(-size // most)
    part = max(smallest, -(-even // MEBIBYTE) * MEBIBYTE)
    return [
        Span(number, offset, min(part, size - offset)) for number, offset in enumerate(range(0, size, part), start=1)
    ]
