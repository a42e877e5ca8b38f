"""The conditions of a query, with their numbered parameters, and those that filters and parents become."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Condition", "Conditions", "add_equalities", "add_parent", "values_of"]


class Conditions:
    """The conditions of a WHERE clause, joined by AND. Values travel as parameters, never inside the text."""

    def __init__(self, args: Iterable[object] = ()) -> None:
        """Start without conditions; `args` are parameters of an inner query, which come first."""
        self._parts: list[str] = []
        self.args: list[object] = list(args)

    def arg(self, value: object) -> str:
        """Add a parameter and return its placeholder, for example `$3`."""
        self.args.append(value)
        return f"${len(self.args)}"

    def add(self, condition: str, *values: object) -> None:
        """Add a condition; each `{}` in it stands for one of the values."""
        self._parts.append(condition.format(*(self.arg(value) for value in values)) if values else condition)

    @property
    def where(self) -> str:
        """The WHERE clause; empty without conditions."""
        return f" WHERE {' AND '.join(self._parts)}" if self._parts else ""


@dataclass(frozen=True)
class Condition:
    """A condition that an equality cannot say, for example `Condition("{} = ANY (devices)", ("cpu-x86-64",))`."""

    sql: str
    values: tuple[object, ...] = ()


def add_equalities(conditions: Conditions, filters: Mapping[str, object], arrays: Collection[str]) -> None:
    """Restrict a query to rows whose columns have the given values; `arrays` are columns that hold arrays."""
    for column, value in filters.items():
        values = values_of(value)
        if column in arrays:
            # In the form that an index on the elements answers.
            conditions.add(f"{column} @> {{}}", values)
        elif len(values) == 1:
            conditions.add(f"{column} = {{}}", values[0])
        else:
            conditions.add(f"{column} = ANY ({{}})", values)


def add_parent(conditions: Conditions, parent: str) -> None:
    """Restrict a query to the resources of a parent; `-` as an id stands for any."""
    segments = parent.split("/")
    ids = segments[1::2]
    if "-" not in ids:
        conditions.add("parent = {}", parent)
    elif set(ids) != {"-"}:
        for position, segment in enumerate(segments, start=1):
            if segment != "-":
                conditions.add(f"split_part(parent, '/', {position}) = {{}}", segment)


def values_of(value: object) -> list[object]:
    """Return the values of a filter: one, or a sequence of them."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else [value]
