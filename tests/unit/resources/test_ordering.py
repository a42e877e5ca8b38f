from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.platform.errors import LatheError
from services.resources.conditions import Conditions
from services.resources.ordering import parse_order

FIELDS = ("create_time", "display_name", "name")
TERMS = st.lists(
    st.tuples(st.sampled_from(FIELDS), st.sampled_from(["", "asc", "desc", "DESC"])), unique_by=lambda t: t[0]
)
SPACES = st.sampled_from(["", " ", "  ", "\t"])


@given(TERMS, SPACES, SPACES)
def test_every_well_formed_order_is_read(terms: list[tuple[str, str]], before: str, after: str) -> None:
    text = ",".join(f"{before}{field} {direction}{after}" for field, direction in terms)
    order = parse_order(text, FIELDS, "create_time desc")
    expected = [(field, direction.lower() == "desc") for field, direction in terms] or [("create_time", True)]
    assert list(order.columns[:-1]) == expected
    assert order.columns[-1] == ("uid", expected[-1][1])


@given(st.text(max_size=40))
def test_no_text_breaks_the_parser_or_reaches_the_query(text: str) -> None:
    names: tuple[str, ...] = ()
    with suppress(LatheError):
        names = parse_order(text, FIELDS, "name").names
    assert set(names) <= {*FIELDS, "uid"}


@pytest.mark.parametrize(
    "text", ["size", "name up", "name asc desc", "name,,create_time", "name,", ",", "name; drop table x", "NAME"]
)
def test_what_is_no_order_is_refused(text: str) -> None:
    with pytest.raises(LatheError, match="fields: create_time, display_name, name") as caught:
        parse_order(text, FIELDS, "name")
    assert caught.value.fields[0][0] == "order_by"


def test_a_field_may_appear_once() -> None:
    with pytest.raises(LatheError, match="'name' appears twice"):
        parse_order("name, name desc", FIELDS, "name")


def test_one_direction_is_a_row_comparison() -> None:
    conditions = Conditions()
    parse_order("create_time desc", FIELDS, "name").add_after(conditions, [1, 2])
    assert conditions.where == " WHERE (create_time, uid) < ($1, $2)"
    assert conditions.args == [1, 2]


Row = tuple[int, int, int]


@given(
    st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=12, unique=True),
    st.tuples(*[st.booleans()] * 3),
)
def test_the_condition_means_behind_in_this_order(rows: list[Row], descending: tuple[bool, bool, bool]) -> None:
    direction = {True: "desc", False: "asc"}
    text = ", ".join(f"{field} {direction[down]}" for field, down in zip("abc", descending, strict=True))
    order = parse_order(text + f", uid {direction[descending[2]]}", ("a", "b", "c", "uid"), "a")
    rows.sort(key=lambda row: [-value if down else value for value, down in zip(row, descending, strict=True)])
    for index, row in enumerate(rows):
        conditions = Conditions()
        order.add_after(conditions, [*row, 0])
        assert [other for other in rows if _holds(conditions, other)] == rows[index + 1 :]


def _holds(conditions: Conditions, row: Row) -> bool:
    """Evaluate the SQL condition as Python, which agrees on these operators."""
    text = conditions.where.removeprefix(" WHERE ").replace(" AND ", " and ").replace(" OR ", " or ")
    text = text.replace(" = ", " == ")
    for number in range(len(conditions.args), 0, -1):
        text = text.replace(f"${number}", repr(conditions.args[number - 1]))
    a, b, c = row
    return bool(eval(text, {"a": a, "b": b, "c": c, "uid": 0}))
