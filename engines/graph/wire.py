"""Reads protobuf messages whose classes are not installed: by a small schema, from bytes and from text.

A message becomes a dict of lists: `{"node": [{"name": ["x"], "op": ["Placeholder"]}]}`. Fields that the schema does
not name are skipped, whatever they hold. Format of the bytes: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Message = dict[str, list[Any]]
"""Values by field: `str`, `int`, a `Message`. Enumeration values from text are the words that stand there."""

LENGTH_DELIMITED = 2
"""The wire type of strings, bytes, messages and packed lists."""

_VARINT, _FIXED64, _FIXED32 = 0, 1, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}
_MAX_VARINT_BYTES = 10
_MAX_DEPTH = 64
_MAX_DIGITS = 20
_TOKEN = re.compile(r"""[\s,;]+|\#[^\n]*|("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[{}<>\[\]:]|[^\s{}<>\[\]:"'#,;]+)""")
_CLOSING = {"{": "}", "<": ">"}


class MalformedMessageError(ValueError):
    """What was read is no whole protobuf message."""


@dataclass(frozen=True)
class Schema:
    """The fields of a message that are read: name by number, and the schemas of those that are messages."""

    names: Mapping[int, str]
    messages: Mapping[str, Schema] = field(default_factory=dict)


class Field(NamedTuple):
    """A field of a message: its number, its wire type, its value, and all of its bytes with the tag."""

    number: int
    kind: int
    value: int | memoryview
    whole: memoryview


def read_bytes(data: memoryview, schema: Schema) -> Message:
    """Return the message of its bytes.

    Raises:
        MalformedMessageError: It ends within a field, or a field is of another kind than the schema's.
    """
    message: Message = {}
    for number, _, value, _ in fields(data):
        name = schema.names.get(number)
        if name is None:
            continue
        inner = schema.messages.get(name)
        if inner is None:
            message.setdefault(name, []).append(value if isinstance(value, int) else _text(value, name))
        elif isinstance(value, int):
            raise MalformedMessageError(f"'{name}' is a number where a message belongs")
        else:
            message.setdefault(name, []).append(read_bytes(value, inner))
    return message


def read_text(text: str, schema: Schema) -> Message:
    """Return the message of its text format (.pbtxt).

    Raises:
        MalformedMessageError: The text is no such message, saying at which line.
    """
    tokens = _Tokens(text)
    message = tokens.message(schema, "")
    if not message:
        raise MalformedMessageError("none of its fields is known")
    return message


def fields(data: memoryview) -> Iterator[Field]:
    """Yield the fields of a message; of a memory map, pages that only a value lies on are not read.

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
    """Return the bytes of a number that is not negative."""
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*found, number))


def _text(value: memoryview, name: str) -> str:
    try:
        return bytes(value).decode()
    except UnicodeDecodeError as error:
        raise MalformedMessageError(f"'{name}' is no text") from error


class _Tokens:
    """Reads the text format, one token ahead."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._next = self._scan()

    def message(self, schema: Schema | None, closing: str, depth: int = 0) -> Message:
        """Return the fields up to the closing bracket; those of a schema that is None are skipped."""
        if depth > _MAX_DEPTH:
            raise self._error("its messages are nested too deeply")
        message: Message = {}
        names = set(schema.names.values()) if schema else set()
        while self._next != closing:
            name = self._take()
            if not re.fullmatch(r"\w+", name):
                raise self._error(f"{name!r} stands where a field begins" if name else "it ends within a message")
            wanted = schema.messages.get(name) if schema else None
            for value in self._values(wanted, depth):
                if name not in names:
                    continue
                if wanted is None and isinstance(value, dict):
                    raise self._error(f"a message stands where a value of '{name}' belongs")
                message.setdefault(name, []).append(value)
        self._take()
        return message

    def _values(self, schema: Schema | None, depth: int) -> Iterator[Any]:
        if self._next == ":":
            self._take()
        if self._next != "[":
            yield self._value(schema, depth)
            return
        self._take()
        while self._next != "]":
            yield self._value(schema, depth)
        self._take()

    def _value(self, schema: Schema | None, depth: int) -> Any:
        token = self._take()
        if token in _CLOSING:
            return self.message(schema, _CLOSING[token], depth + 1)
        if schema is not None or token in {"", "}", ">", "]", ":"}:
            raise self._error(f"{token!r} stands where a value belongs" if token else "it ends within a field")
        if token[0] not in "\"'":
            if not re.fullmatch(r"-?\d+", token):
                return token
            if len(token) > _MAX_DIGITS:
                raise self._error(f"the number {token[:_MAX_DIGITS]}… is too long")
            return int(token)
        value = token[1:-1]
        while self._next[:1] in {'"', "'"}:
            value += self._take()[1:-1]
        return value

    def _take(self) -> str:
        token = self._next
        if token:
            self._next = self._scan()
        return token

    def _scan(self) -> str:
        while self._position < len(self._text):
            found = _TOKEN.match(self._text, self._position)
            if found is None:
                raise self._error("a quotation mark has no second one")
            self._position = found.end()
            if found[1]:
                return found[1]
        return ""

    def _error(self, what: str) -> MalformedMessageError:
        return MalformedMessageError(f"line {self._text.count(chr(10), 0, self._position) + 1}: {what}")
