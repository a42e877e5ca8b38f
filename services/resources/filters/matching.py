"""A filter asked of one entry in Python: of what is not in a table, such as an event."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from services.resources.filters.fields import AllTests, Kind, NotTest, Test, Tests

__all__ = ["matches"]

_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def matches(tests: Tests, entry: Mapping[str, Any]) -> bool:
    """Return whether an entry passes.

    Args:
        tests: what `checked` made of a filter.
        entry: a value for each field: a text, a time with its zone, a number (of an enum, too), a flag, a sequence of
            texts, or texts by key.
    """
    if isinstance(tests, Test):
        return _passes(tests, entry[tests.name])
    if isinstance(tests, NotTest):
        return not matches(tests.test, entry)
    if isinstance(tests, AllTests):
        return all(matches(each, entry) for each in tests.tests)
    return any(matches(each, entry) for each in tests.tests)


def _passes(test: Test, value: Any) -> bool:
    if test.field.kind is Kind.MAP:
        return test.key in value and (test.how == "set" or _holds(test, value[test.key]))
    if test.how == "set":
        return test.field.kind is Kind.TIME or bool(value)
    if test.field.kind is Kind.TEXTS:
        return any(_holds(test, each) for each in value)
    return _holds(test, value)


def _holds(test: Test, value: Any) -> bool:
    return _fits(value, test.value) if test.how == "like" else _COMPARE[test.how](value, test.value)


def _fits(text: str, pieces: Sequence[str]) -> bool:
    """Return whether a text is made of the pieces, in order, with anything between them."""
    first, *middle, last = pieces
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in middle:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
