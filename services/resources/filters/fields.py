"""The fields that a list can be filtered and sorted by, and what a restriction on one of them means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from services.platform.words import number, words
from services.resources.filters.syntax import All, Node, Not, Restriction, Value, parse, wrong

if TYPE_CHECKING:
    from google.protobuf.internal.enum_type_wrapper import _EnumTypeWrapper

__all__ = [
    "COMMON_FIELDS",
    "FLAG",
    "NUMBER",
    "TEXT",
    "TEXTS",
    "TIME",
    "AllTests",
    "EitherTest",
    "Fields",
    "FilterField",
    "Kind",
    "NotTest",
    "Test",
    "Tests",
    "checked",
    "word_field",
]

_LARGEST = 2**63 - 1


class Kind(Enum):
    """What a field holds."""

    TEXT = "text"
    TIME = "a time"
    NUMBER = "a whole number"
    FLAG = "true or false"
    WORD = "a word"
    TEXTS = "several texts"
    MAP = "texts by key"


@dataclass(frozen=True)
class FilterField:
    """A field of a list's entries.

    Attributes:
        kind: what it holds.
        enum: of a WORD: the enum whose values it has.
        column: the column that holds it, never NULL; one of the field's name if empty.
    """

    kind: Kind
    enum: _EnumTypeWrapper[Any] | None = None
    column: str = ""

    @property
    def sort_type(self) -> type | None:
        """The Python type of its values if lists can be sorted by it."""
        types = {Kind.TEXT: str, Kind.TIME: datetime, Kind.NUMBER: int, Kind.WORD: int}
        return None if self.column else types.get(self.kind)


Fields: TypeAlias = Mapping[str, FilterField]

TEXT, TIME, NUMBER = FilterField(Kind.TEXT), FilterField(Kind.TIME), FilterField(Kind.NUMBER)
FLAG, TEXTS = FilterField(Kind.FLAG), FilterField(Kind.TEXTS)
COMMON_FIELDS: Fields = {
    "name": TEXT,
    "display_name": TEXT,
    "owner": TEXT,
    "labels": FilterField(Kind.MAP),
    "create_time": TIME,
    "update_time": TIME,
}
"""What every resource in a table of `resource_table` has."""


def word_field(enum: _EnumTypeWrapper[Any]) -> FilterField:
    """Return the field for a column that holds the numbers of an enum."""
    return FilterField(Kind.WORD, enum)


@dataclass(frozen=True)
class Test:
    """One thing to ask of an entry.

    Attributes:
        name: of the field.
        field: what it holds.
        how: `=`, `<`, `<=`, `>`, `>=`, `like` (with wildcards) or `set` (has a value other than the default).
        value: of the field's type; the texts between the wildcards for `like`, None for `set`.
        key: of a MAP.
    """

    name: str
    field: FilterField
    how: str
    value: Any
    key: str = ""


@dataclass(frozen=True)
class NotTest:
    """What does not pass."""

    test: Tests


@dataclass(frozen=True)
class AllTests:
    """What passes every one."""

    tests: tuple[Tests, ...]


@dataclass(frozen=True)
class EitherTest:
    """What passes at least one."""

    tests: tuple[Tests, ...]


Tests: TypeAlias = Test | NotTest | AllTests | EitherTest


def checked(text: str, fields: Fields) -> Tests:
    """Return what a filter asks of entries with these fields.

    Raises:
        LatheError: INVALID_ARGUMENT for the field `filter`, reason INVALID_FILTER, with the position of what is wrong.
    """
    return _checked(parse(text), fields) if text.strip() else AllTests(())


def _checked(node: Node, fields: Fields) -> Tests:
    if isinstance(node, Restriction):
        return _test(node, fields)
    if isinstance(node, Not):
        return NotTest(_checked(node.node, fields))
    parts = tuple(_checked(each, fields) for each in node.nodes)
    return AllTests(parts) if isinstance(node, All) else EitherTest(parts)


def _test(asked: Restriction, fields: Fields) -> Test:
    name, *keys = asked.path
    field = fields.get(name)
    if field is None or (keys and field.kind is not Kind.MAP):
        known = ", ".join(sorted(fields))
        raise wrong(asked.position, f"'{'.'.join(asked.path)[:80]}' is not a field of this list. Fields: {known}")
    key = ".".join(keys)
    if field.kind is Kind.MAP and not key:
        # `labels:team` asks for the key, as `labels.team:*` does.
        _require(asked.comparator == ":", asked, f"'{name}' holds keys. Write `{name}.key = value` or `{name}:key`")
        return Test(name, field, "set", None, asked.value.text)
    if field.kind is Kind.TEXTS:
        _require(asked.comparator == ":", asked, f"'{name}' holds several values. Write `{name}:value`")
    how = "=" if asked.comparator == ":" else asked.comparator
    if asked.comparator == ":" and asked.value.pieces == ("", ""):
        return Test(name, field, "set", None, key)
    if field.kind in {Kind.WORD, Kind.FLAG}:
        _require(how == "=", asked, f"'{name}' is {field.kind.value}; `{how}` has no meaning there. Use `=` or `!=`")
    if field.kind in {Kind.TEXT, Kind.TEXTS, Kind.MAP}:
        if len(asked.value.pieces) == 1:
            return Test(name, field, how, asked.value.text, key)
        _require(how == "=", asked, f"a wildcard cannot be compared by `{how}`. Use `=`, or write \\* in quotes")
        return Test(name, field, "like", asked.value.pieces, key)
    return Test(name, field, how, _READ[field.kind](asked.value, field), key)


def _require(right: bool, asked: Restriction, sentence: str) -> None:
    if not right:
        raise wrong(asked.position, sentence)


def _time(value: Value, _field: FilterField) -> datetime:
    try:
        moment = datetime.fromisoformat(value.text.upper())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong(
            value.position, f"'{value.text[:40]}' is not a time. Write 2026-05-31T18:00:00Z, or 2026-05-31 for midnight"
        ) from None


def _number(value: Value, _field: FilterField) -> int:
    try:
        found = float(value.text) if set(value.text) & set(".eE") else int(value.text)
        if found != int(found) or abs(found) > _LARGEST:
            raise ValueError
    except (ValueError, OverflowError):
        raise wrong(value.position, f"'{value.text[:40]}' is not a whole number below 2^63") from None
    return int(found)


def _flag(value: Value, _field: FilterField) -> bool:
    if value.text not in {"true", "false"}:
        raise wrong(value.position, f"'{value.text[:40]}' is neither true nor false")
    return value.text == "true"


def _word(value: Value, field: FilterField) -> int:
    assert field.enum is not None
    try:
        return int(number(field.enum, value.text))
    except ValueError:
        known = ", ".join(words(field.enum))
        raise wrong(value.position, f"'{value.text[:40]}' is not one of {known}") from None


_READ = {Kind.TIME: _time, Kind.NUMBER: _number, Kind.FLAG: _flag, Kind.WORD: _word}
