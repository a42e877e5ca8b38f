"""Reads one line of tensor information from left to right, and reports line and column of an error."""

from __future__ import annotations

import re
from typing import NoReturn

from engines.failures import invalid

_SPACES = re.compile(r"[ \t\r]*")
_NUMBER = re.compile(r"-?[0-9]+")


class Scanner:
    """A position in one line of a text.

    Args:
        text: The line.
        number: Its number, from 1.
    """

    def __init__(self, text: str, number: int) -> None:
        self._text = text
        self._number = number
        self._at = 0

    def _index(self, expected: str, least: int = 0, most: int = 4095) -> int:
        self._rest()
        found = _NUMBER.match(self._text, self._at)
        if found is None:
            self._expected(expected)
        value = self._integer(found[0])
        if not least <= value <= most:
            over = f"a maximum of at least the minimum, {least}" if least > 1 and value < least else ""
            self._expected(over or f"a number from {least} to {most}")
        self._at = found.end()
        return value

    def _integer(self, digits: str) -> int:
        """Return the number; numbers with more digits than allowed become one that is out of every range."""
        return int(digits) if len(digits) <= 18 else -1 if digits.startswith("-") else 10**18

    def _take(self, character: str, expected: str) -> None:
        if not self._rest().startswith(character):
            self._expected(expected)
        self._at += 1

    def _rest(self) -> str:
        found = _SPACES.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._text[self._at : self._at + 40]

    def _expected(self, what: str) -> NoReturn:
        rest = self._rest().rstrip(" \t\r")
        fail(self._number, self._at + 1, f"Expected {what}; found {f'{rest!r}' if rest else 'the end of the line'}.")


def fail(line: int, column: int, message: str) -> NoReturn:
    """Raise the INVALID_SPEC failure of a place in the text; line and column count from 1."""
    raise invalid(
        f"Tensor information, line {line}, column {column}: {message}",
        "Write one element a line: input_0:float(1*3*224*224); a range as (1*4,8*384), a set as "
        "([3*512*512,3*1024*1024]).",
    )
