"""What PostgreSQL finds for a filter is what Python finds."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from lathe.type.v1.task_pb2 import TaskState

from services.database.pool import Database
from services.resources.conditions import Conditions
from services.resources.filters.fields import COMMON_FIELDS, FLAG, NUMBER, TEXT, TEXTS, checked, word_field
from services.resources.filters.matching import matches
from services.resources.filters.sql import condition_of
from services.resources.filters.syntax import Node, Not, Restriction, Value
from tests.unit.resources.filter_trees import printed, trees

FIELDS = {
    **COMMON_FIELDS,
    "device": TEXT,
    "state": word_field(TaskState),
    "uses": TEXTS,
    "number": NUMBER,
    "built_in": FLAG,
}
WORDS = ["", "a", "ab", "b", "A", "é", "猫", "a_b", "a%b", "a\\b", 'a"b', "a*b", "-1"]
TIMES = [datetime(2026, 5, day, hour, tzinfo=UTC) for day in (1, 31) for hour in (0, 18)]
NUMBERS = [0, 1, -30, 2**31 - 1]
PIECES = st.sampled_from(WORDS)
TEXT_VALUES = st.lists(PIECES, min_size=1, max_size=3).map(lambda pieces: Value(tuple(pieces)))
ORDERED = st.sampled_from(["=", "<", "<=", ">", ">=", ":"])


def _restriction(
    path: st.SearchStrategy[tuple[str, ...]], comparator: st.SearchStrategy[str], value: st.SearchStrategy[Value]
) -> st.SearchStrategy[Restriction]:
    return st.builds(Restriction, path, comparator, value)


def _values(texts: Sequence[str]) -> st.SearchStrategy[Value]:
    return st.sampled_from([Value((text,)) for text in texts])


PRESENT = st.just(Value(("", "")))
RESTRICTIONS = st.one_of(
    _restriction(st.sampled_from([("name",), ("device",), ("labels", "a"), ("labels", "b.c/d")]), ORDERED, TEXT_VALUES),
    _restriction(st.just(("labels",)), st.just(":"), _values(["a", "b.c/d", "x"])),
    _restriction(st.just(("uses",)), st.just(":"), TEXT_VALUES),
    _restriction(
        st.just(("create_time",)), ORDERED, _values(["2026-05-01", "2026-05-31T18:00:00Z", "2026-05-31T20:00+02:00"])
    ),
    _restriction(st.just(("number",)), ORDERED, _values(["0", "1", "-30", "3e3", "9223372036854775807"])),
    _restriction(st.just(("state",)), st.sampled_from("=:"), _values(["RUNNING", "TASK_STATE_PENDING"])),
    _restriction(st.just(("built_in",)), st.sampled_from("=:"), _values(["true", "false"])),
    _restriction(
        st.sampled_from([("name",), ("create_time",), ("number",), ("state",), ("built_in",), ("uses",)]),
        st.just(":"),
        PRESENT,
    ),
)


def _entries() -> list[dict[str, Any]]:
    count = len(WORDS)
    return [
        {
            "name": WORDS[number % count],
            "display_name": WORDS[number * 5 % count],
            "owner": "ada",
            "labels": dict.fromkeys(["a", "b.c/d"][: number % 3], WORDS[number * 7 % count]),
            "create_time": TIMES[number % len(TIMES)],
            "update_time": TIMES[0],
            "device": WORDS[number * 3 % count],
            "state": number % 4,
            "uses": [WORDS[(number + each) % count] for each in range(number % 3)],
            "number": NUMBERS[number // 2 % len(NUMBERS)],
            "built_in": number % 2 == 0,
        }
        for number in range(60)
    ]


ENTRIES = _entries()


@pytest.fixture(scope="module")
async def table(migrated: Database) -> AsyncIterator[Database]:
    await migrated.execute("DROP TABLE IF EXISTS filtered")
    await migrated.execute(
        """
        CREATE TABLE filtered (id int, name text NOT NULL, display_name text NOT NULL, owner text NOT NULL,
            labels jsonb NOT NULL, create_time timestamptz NOT NULL, update_time timestamptz NOT NULL,
            device text COLLATE "C" NOT NULL, state smallint NOT NULL, uses text[] COLLATE "C" NOT NULL,
            number int NOT NULL, built_in boolean NOT NULL)
        """
    )
    columns = ", ".join(ENTRIES[0])
    places = ", ".join(f"${number}" for number in range(1, len(ENTRIES[0]) + 2))
    for number, entry in enumerate(ENTRIES):
        await migrated.execute(f"INSERT INTO filtered (id, {columns}) VALUES ({places})", number, *entry.values())
    yield migrated
    await migrated.execute("DROP TABLE filtered")


async def _found(database: Database, text: str) -> list[int]:
    conditions = Conditions()
    conditions.add(condition_of(checked(text, FIELDS), conditions))
    rows = await database.fetch(f"SELECT id FROM filtered{conditions.where} ORDER BY id", *conditions.args)
    return [row["id"] for row in rows]


def _expected(text: str, entries: Sequence[Mapping[str, Any]]) -> list[int]:
    return [number for number, entry in enumerate(entries) if matches(checked(text, FIELDS), entry)]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees(RESTRICTIONS))
async def test_sql_and_python_agree(table: Database, tree: Node) -> None:
    text = printed(tree)
    assume(not _orders_wildcards(tree))
    assert await _found(table, text) == _expected(text, ENTRIES)


def _orders_wildcards(node: Node) -> bool:
    """Return whether a filter compares a wildcard by `<` or the like, which is refused."""
    if isinstance(node, Restriction):
        return node.comparator[0] in "<>" and len(node.value.pieces) > 1
    return any(map(_orders_wildcards, [node.node] if isinstance(node, Not) else node.nodes))
