"""The conditions of a query, with their numbered parameters, and what a parent becomes."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Conditions", "add_parent"]


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
