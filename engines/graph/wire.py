"""Walks the fields of protobuf messages without parsing them, so that long values can be skipped.

protobuf's own parser takes a whole message and copies every value, known or unknown. A model's weights are most of its
file, and descriptions do not need them: in a memory map, the pages of a skipped value are never read. Wire format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

LENGTH_DELIMITED = 2
"""The wire type of strings, bytes, messages and packed lists."""

_VARINT, _FIXED64, _FIXED32 = 0, 1, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10


class MalformedMessageError(ValueError):
    """The bytes are not a complete protobuf message."""


class Field(NamedTuple):
    """A field of a message: its number, its wire type, its value, and all of its bytes with the tag."""

    number: int
    kind: int
    value: int | memoryview
    whole: memoryview


def fields(data: memoryview) -> Iterator[Field]:
    """Yield the fields of a message; in a memory map, pages that hold only a value are not read.

    Raises:
        MalformedMessageError: It ends within a field, or a field is of an unknown kind.
    """
    position, end = 0, len(data)
    while position < end:
        start = position
        tag, position = read_varint(data, position)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            value, position = read_varint(data, position)
            yield Field(number, kind, value - (1 << 64) if value >= 1 << 63 else value, data[start:position])
            continue
        if kind == LENGTH_DELIMITED:
            width, position = read_varint(data, position)
        elif kind in _WIDTHS:
            width = _WIDTHS[kind]
        else:
            raise MalformedMessageError(f"the field at byte {position} is of the unknown kind {kind}")
        if position + width > end:
            raise MalformedMessageError(f"{width} bytes should follow byte {position}, and {end - position} do")
        yield Field(number, kind, data[position : position + width], data[start : position + width])
        position += width


def read_varint(data: bytes | memoryview, position: int) -> tuple[int, int]:
    """Return the number that begins at a position, and the position behind it.

    Raises:
        MalformedMessageError: The data end within it, or it is longer than any number.
    """
    result = 0
    for index in range(_MAX_VARINT_BYTES):
        if position + index >= len(data):
            raise MalformedMessageError("it ends within a number")
        byte = data[position + index]
        result |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return result & ((1 << 64) - 1), position + index + 1
    raise MalformedMessageError(f"the number at byte {position} is too long")


def varint_bytes(number: int) -> bytes:
    """Return the bytes of a number of at least 0."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))
