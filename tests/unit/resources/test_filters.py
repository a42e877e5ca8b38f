from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lathe.type.v1.task_pb2 import TASK_STATE_RUNNING, TaskState

from services.cli.listing import filter_of, quoted
from services.platform.errors import LatheError
from services.resources.conditions import Conditions
from services.resources.filters.fields import COMMON_FIELDS, FLAG, NUMBER, TEXT, TEXTS, checked, word_field
from services.resources.filters.matching import matches
from services.resources.filters.sql import condition_of
from services.resources.filters.syntax import MAX_DEPTH, All, Either, Node, Not, Restriction, Value, parse
from tests.unit.resources.filter_trees import printed, trees

FIELDS = {
    **COMMON_FIELDS,
    "device": TEXT,
    "state": word_field(TaskState),
    "uses": TEXTS,
    "number": NUMBER,
    "built_in": FLAG,
}
ENTRY: Mapping[str, Any] = {
    "name": "models/digits/versions/1",
    "display_name": 'Digits "seen" 100%',
    "owner": "ada@example.com",
    "labels": {"team": "vision", "a.b/c": "x_y", "empty": ""},
    "create_time": datetime(2026, 5, 31, 18, tzinfo=UTC),
    "update_time": datetime(2026, 6, 1, tzinfo=UTC),
    "device": "cpu-x86-64",
    "state": TASK_STATE_RUNNING,
    "uses": ["models/m/versions/7", "datasets/digits"],
    "number": -30,
    "built_in": True,
}


def test_or_binds_tighter_than_and_and_blanks_join() -> None:
    a, b, c = (Restriction((name,), "=", Value(("1",))) for name in "abc")
    assert parse("a = 1 AND b = 1 OR c = 1") == All((a, Either((b, c))))
    assert parse("a = 1 b = 1 AND c = 1") == All((All((a, b)), c))
    assert parse("-a = 1 OR NOT (b=1 OR c=1)") == Either((Not(a), Not(Either((b, c)))))
    assert parse("a = (1 OR (1 AND -1))") == Either((a, All((a, Not(a)))))
    assert parse("a != 1") == Not(a)
    assert parse("  ") == All(())


@settings(max_examples=50)
@given(trees())
def test_every_tree_is_read_as_it_is_written(tree: Node) -> None:
    assert parse(printed(tree)) == tree


@given(st.text(max_size=60) | st.text(alphabet='ab:=<>!()-*."\\ANDORT 1', max_size=40))
def test_no_text_breaks_the_reader_or_reaches_the_query(text: str) -> None:
    conditions = Conditions()
    with suppress(LatheError):
        assert isinstance(matches(checked(text, FIELDS), ENTRY), bool)
        sql = condition_of(checked(text, FIELDS), conditions)
        assert set(sql) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789$ ()[]<>=@?:-,{}'\"")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "state = RUNNING",
        "state = TASK_STATE_RUNNING AND state != PENDING",
        "state:(FAILED OR RUNNING)",
        "state:* AND name:* AND uses:* AND built_in:* AND number:* AND create_time:*",
        "owner = ada@example.com",
        "owner = ada*",
        'display_name = "*\\"seen\\" 100%"',
        'display_name = "D*t*%"',
        "display_name < E AND display_name >= D",
        "labels:team AND labels.team:* AND -labels:other",
        "labels.team = vision AND labels.team:vis* AND labels.team != viso",
        "labels.a.b/c = x_y AND labels.'a.b/c' = 'x_*'",
        "labels.empty = '' AND labels:empty",
        "labels.other != vision",
        "create_time = 2026-05-31T18:00:00Z",
        "create_time = 2026-05-31T20:00:00+02:00",
        "create_time > 2026-05-31 AND create_time < '2026-06-01' AND update_time >= 2026-06-01",
        "uses:datasets/digits AND uses:models/*/versions/7 AND -uses:models/m",
        "number = -30 AND number < 0 AND number > -3.1e1",
        "built_in = true AND built_in != false",
        "device = cpu-x86-64 owner = ada@example.com",
    ],
)
def test_what_a_filter_means(text: str) -> None:
    assert matches(checked(text, FIELDS), ENTRY)
    if text:
        assert not matches(checked(f"-({text})", FIELDS), ENTRY)


@pytest.mark.parametrize(
    ("text", "position", "told"),
    [
        ("owner", 1, "compared with nothing"),
        ("owner = ada AND", 13, "'AND' joins two comparisons, and one of them is missing"),
        ("owner = ada or state = RUNNING", 13, "Write OR in capitals"),
        ("owner = ada AND colour = red", 17, "'colour' is not a field of this list. Fields: built_in, create_time"),
        ("owner.name = ada", 1, "'owner.name' is not a field"),
        ("state = ASLEEP", 9, "not one of PENDING, RUNNING"),
        ("state > RUNNING", 1, "no meaning"),
        ("create_time > yesterday", 15, "not a time"),
        ("create_time > 0001-01-01T00:00:00+14:00", 15, "not a time"),
        ("number > 9223372036854775808", 10, "not a whole number"),
        ("number > 1.5", 10, "not a whole number"),
        ("built_in = maybe", 12, "neither true nor false"),
        ("uses = datasets/digits", 1, "Write `uses:value`"),
        ("labels = team", 1, "Write `labels.key = value`"),
        ("name < 'a*'", 1, "wildcard"),
        ("owner = ", 9, "ends too early"),
        ("owner = ada)", 12, "does not belong here"),
        ("owner = (name = x)", 10, "comparison inside"),
        ("owner = a\0b", 10, "NUL"),
        ("(" * (MAX_DEPTH + 1), MAX_DEPTH + 1, "parentheses"),
        (" OR ".join(["owner = x"] * 101), 1, "101 restrictions"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(text: str, position: int, told: str) -> None:
    with pytest.raises(LatheError) as caught:
        checked(text, FIELDS)
    assert (caught.value.reason, caught.value.fields[0][0]) == ("INVALID_FILTER", "filter")
    assert caught.value.fields[0][1].startswith(f"At character {position}: ")
    assert told in caught.value.message


def test_several_values_of_a_field_are_one_range_of_an_index() -> None:
    conditions = Conditions()
    assert condition_of(checked("state = (RUNNING OR PENDING)", FIELDS), conditions) == "state = ANY ($1::smallint[])"
    assert conditions.args == [[2, 1]]


@given(st.text(alphabet=st.characters(exclude_characters="\0"), max_size=20))
def test_the_command_line_quotes_what_is_meant_literally(text: str) -> None:
    assert parse(f"owner = {quoted(text)}") == Restriction(("owner",), "=", Value((text,)))


def test_options_and_a_filter_join() -> None:
    text = filter_of("state = RUNNING OR number = 1", ["team=a b"], device="", uses=["x", "y*"])
    state, number = Restriction(("state",), "=", Value(("RUNNING",))), Restriction(("number",), "=", Value(("1",)))
    label = Restriction(("labels", "team"), "=", Value(("a b",)))
    uses = [Restriction(("uses",), ":", Value((value,))) for value in ("x", "y*")]
    assert parse(text) == All((Either((state, number)), label, Either(tuple(uses))))
    assert filter_of("name = x", None) == "name = x"
