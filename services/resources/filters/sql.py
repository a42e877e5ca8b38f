"""A filter as a condition of a query; what users wrote travels as parameters alone."""

from __future__ import annotations

from collections.abc import Sequence

from services.resources.conditions import Conditions
from services.resources.filters.fields import AllTests, EitherTest, FilterField, Kind, NotTest, Test, Tests

__all__ = ["condition_of"]

# A whole number is compared with columns of any width; an index serves either.
_TYPES = {Kind.NUMBER: "::bigint", Kind.WORD: "::smallint"}
_DEFAULTS = {Kind.TEXT: "''", Kind.NUMBER: "0", Kind.WORD: "0", Kind.TEXTS: "'{}'"}


def condition_of(tests: Tests, conditions: Conditions) -> str:
    """Return the condition for what a filter asks, never NULL; its values are added to the parameters."""
    if isinstance(tests, Test):
        return _condition(tests, conditions)
    if isinstance(tests, NotTest):
        return f"NOT {condition_of(tests.test, conditions)}"
    if isinstance(tests, AllTests):
        return f"({' AND '.join(condition_of(each, conditions) for each in tests.tests)})" if tests.tests else "TRUE"
    if (values := _alternatives(tests)) is not None:
        # One range of an index for each value, rather than a scan for each alternative.
        first = tests.tests[0]
        assert isinstance(first, Test)
        cast = _TYPES.get(first.field.kind, "::text")
        return f"{first.field.column or first.name} = ANY ({conditions.arg(values)}{cast}[])"
    return f"({' OR '.join(condition_of(each, conditions) for each in tests.tests)})"


def _alternatives(tests: EitherTest) -> Sequence[object] | None:
    """Return the values if all that is asked is that one field has one of them."""
    asked = [test for test in tests.tests if isinstance(test, Test) and test.how == "="]
    simple = {(test.name, test.field.kind) for test in asked}
    if (
        len(asked) < len(tests.tests)
        or len(simple) > 1
        or not {kind for _, kind in simple} <= _TYPES.keys() | {Kind.TEXT}
    ):
        return None
    return [test.value for test in asked]


def _condition(test: Test, conditions: Conditions) -> str:
    column = test.field.column or test.name
    if test.field.kind is Kind.MAP:
        return _of_key(column, test, conditions)
    if test.how == "set":
        return _has_value(column, test.field)
    if test.field.kind is Kind.TEXTS:
        if test.how == "=":
            return f"{column} @> {conditions.arg([test.value])}"
        return f"EXISTS (SELECT FROM unnest({column}) AS each WHERE each LIKE {conditions.arg(_pattern(test.value))})"
    if test.how == "like":
        return f"{column} LIKE {conditions.arg(_pattern(test.value))}"
    placeholder = f"{conditions.arg(test.value)}{_TYPES.get(test.field.kind, '')}"
    # By code points, as Python compares: not every column has that order.
    by = ' COLLATE "C"' if test.field.kind is Kind.TEXT and test.how != "=" else ""
    return f"{column}{by} {test.how} {placeholder}"


def _has_value(column: str, field: FilterField) -> str:
    if field.kind is Kind.FLAG:
        return column
    return f"{column} <> {_DEFAULTS[field.kind]}" if field.kind in _DEFAULTS else "TRUE"


def _of_key(column: str, test: Test, conditions: Conditions) -> str:
    if test.how == "set":
        return f"{column} ? {conditions.arg(test.key)}::text"
    if test.how == "=":
        # In the form that an index on the map answers.
        return f"{column} @> {conditions.arg({test.key: test.value})}"
    value = f"{column} ->> {conditions.arg(test.key)}::text"
    if test.how == "like":
        return f"coalesce({value} LIKE {conditions.arg(_pattern(test.value))}, FALSE)"
    return f'coalesce(({value}) COLLATE "C" {test.how} {conditions.arg(test.value)}, FALSE)'


def _pattern(pieces: Sequence[str]) -> str:
    escaped = (piece.replace("\\", "\\\\").replace("%", r"\%").replace("_", r"\_") for piece in pieces)
    return "%".join(escaped)
