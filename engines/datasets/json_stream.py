"""Reads the large arrays of a JSON object one element at a time.

COCO's annotations of 100 000 images are half a gigabyte of text, and several gigabytes as Python objects.

ijson is not used because ijson 3.6 with its C backend is slower and less safe. A COCO file of 204 MB (600 000 elements)
takes 8.5 s of CPU with one pass per array and 12.2 s with one pass over the events, against 5.1 s here; memory stays
under 30 MiB in each case. ijson also refuses integers over 64 bits and a byte order mark, silently turns a lone
surrogate into "?", reports no line number, and fills the memory on 200 kB of nested brackets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from engines.datasets.found import invalid

_CHUNK = 2**20
_MAX_VALUE = 2**26
"""Most characters of one element: 64 Mi."""
_SPACE = re.compile(r"[ \t\n\r]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True)
class Unreadable:
    """Stands for a value with half a character, which no index and no message can hold; `line` is where it ends."""

    line: int


def members(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    """Yield (key, element) for each element of each array in a JSON object, and (key, value) for its other values.

    A value that contains half a character is yielded as `Unreadable`.

    Args:
        path: The file, UTF-8.
        name: Its name for messages.

    Raises:
        EngineFailure: INVALID_DATA if the file is not a single JSON object.
    """
    with path.open(encoding="utf-8-sig") as file:
        text = _Text(file, name)
        try:
            text.expect("{")
            if text.peek() == "}":
                return
            while True:
                key = text.value()
                if not isinstance(key, str):
                    text.fail("expected a key")
                text.expect(":")
                if text.peek() == "[":
                    for element in _elements(text):
                        yield key, element
                else:
                    yield key, text.value()
                if text.next_of(",}") == "}":
                    break
        except UnicodeDecodeError as error:
            invalid(f"{name} is not UTF-8 text: {error}.")
        if text.peek():
            text.fail("data after the end of the object")


def holds_half_character(text: str, value: object, start: int = 0, end: int | None = None) -> bool:
    """Return whether a parsed value contains a lone surrogate, which JSON can escape but UTF-8 cannot encode.

    Args:
        text: The text that it was parsed from.
        value: The parsed value.
        start: Its start in the text.
        end: Its end in the text; the text's end if None.
    """
    if _SURROGATE.search(text, start, len(text) if end is None else end) is None:
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _elements(text: _Text) -> Iterator[Any]:
    text.expect("[")
    if text.peek() == "]":
        text.expect("]")
        return
    while True:
        yield text.value()
        if text.next_of(",]") == "]":
            return


class _Text:
    """A window that moves forward over the file."""

    def __init__(self, file: Any, name: str) -> None:
        self._file = file
        self._name = name
        self._buffer = ""
        self._at = 0
        self._line = 1
        self._end = False
        self._decoder = json.JSONDecoder()

    def peek(self) -> str:
        """Return the next character that is not white space, or an empty string at the end."""
        while True:
            match = _SPACE.match(self._buffer, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if self._end:
                return ""
            self._more()

    def next_of(self, allowed: str) -> str:
        found = self.peek()
        if not found or found not in allowed:
            self.fail("expected " + " or ".join(f"'{char}'" for char in allowed))
        self._at += 1
        return found

    def expect(self, char: str) -> None:
        self.next_of(char)

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                if self._end or len(self._buffer) - self._at > _MAX_VALUE:
                    self._at = min(error.pos, len(self._buffer))
                    self.fail(error.msg)
            except RecursionError:
                self.fail("values are nested too deep")
            except ValueError:
                self.fail("a number has too many digits")
            else:
                # A number at the end of the window may continue after it: `1`, `1.`, `1e` and `1e-` all begin `1e-5`.
                if end + 2 < len(self._buffer) or self._end:
                    half = holds_half_character(self._buffer, found, self._at, end)
                    self._at = end
                    return Unreadable(self._line + self._buffer.count("\n", 0, end)) if half else found
            self._more()

    def fail(self, what: str) -> NoReturn:
        line = self._line + self._buffer.count("\n", 0, self._at)
        ended = " (the file ends there)" if self._end and self._at >= len(self._buffer) else ""
        invalid(f"{self._name}, line {line}: this is not valid JSON: {what}{ended}.")

    def _more(self) -> None:
        """Read on, doubling the window as long as one value does not fit."""
        rest = len(self._buffer) - self._at
        read = self._file.read(max(_CHUNK, rest))
        self._line += self._buffer.count("\n", 0, self._at)
        self._buffer = self._buffer[self._at :] + read
        self._at = 0
        self._end = not read
