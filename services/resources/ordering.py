"""`order_by`: from `create_time desc, display_name` to SQL, for keyset paging."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from services.platform.errors import invalid_argument
from services.resources.conditions import Conditions

__all__ = ["Order", "parse_order"]

TIE_BREAKER = "uid"


@dataclass(frozen=True)
class Order:
    """Columns to sort by, most important first, each with whether it descends. The last one is unique."""

    columns: tuple[tuple[str, bool], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names."""
        return tuple(name for name, _ in self.columns)

    @property
    def sql(self) -> str:
        """What follows ORDER BY."""
        return ", ".join(f"{name} {'DESC' if descending else 'ASC'}" for name, descending in self.columns)

    def add_after(self, conditions: Conditions, values: Sequence[object]) -> None:
        """Restrict a query to the rows that come after the one with these values."""
        placeholders = [conditions.arg(value) for value in values]
        directions = {descending for _, descending in self.columns}
        if len(directions) == 1:
            # A row comparison is what an index over the same columns answers by one descent.
            sign = "<" if directions.pop() else ">"
            conditions.add(f"({', '.join(self.names)}) {sign} ({', '.join(placeholders)})")
            return
        alternatives, equal = [], ""
        for (name, descending), placeholder in zip(self.columns, placeholders, strict=True):
            alternatives.append(f"{equal}{name} {'<' if descending else '>'} {placeholder}")
            equal += f"{name} = {placeholder} AND "
        first, first_descends = self.columns[0]
        # The first half says what the second implies, in a form that an index understands.
        conditions.add(f"{first} {'<=' if first_descends else '>='} {placeholders[0]}")
        conditions.add(f"({' OR '.join(alternatives)})")


def parse_order(order_by: str, allowed: Collection[str], default: str) -> Order:
    """Read `field [asc|desc][, …]`.

    Args:
        order_by: the request's; `default` if blank.
        allowed: fields that may be sorted by; each is a column of the same name that is never NULL.
        default: the order if the request names none, in the same form.

    Raises:
        LatheError: INVALID_ARGUMENT for field `order_by`.
    """
    columns: dict[str, bool] = {}
    for term in (order_by if order_by.strip() else default).split(","):
        field, *direction = term.split()[:3] or [""]
        if field not in allowed or len(direction) > 1 or (direction and direction[0].lower() not in ("asc", "desc")):
            raise invalid_argument(
                "order_by",
                f"'{term.strip()}' is not a sort term. Write 'field', 'field asc' or 'field desc', separated by "
                f"commas; fields: {', '.join(sorted(allowed))}.",
            )
        if field in columns:
            raise invalid_argument("order_by", f"'{field}' appears twice. Name each field once.")
        columns[field] = direction == ["desc"] or (bool(direction) and direction[0].lower() == "desc")
    columns.setdefault(TIE_BREAKER, list(columns.values())[-1])
    return Order(tuple(columns.items()))
