"""Accuracy control on made-up costs: no more nodes stay in floating point than needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from engines.search.ladder import MOST_RUNGS, climb


@dataclass(frozen=True)
class Form:
    kept: int
    holds: bool


def judge(needed: int) -> Callable[[Sequence[str]], Form]:
    def at(nodes: Sequence[str]) -> Form:
        return Form(len(nodes), len(nodes) >= needed)

    return at


@given(st.integers(2, 400), st.data())
def test_the_fewest_nodes_that_hold_are_found(count: int, data: st.DataObject) -> None:
    needed = data.draw(st.integers(1, count - 1))
    found = climb([str(node) for node in range(count)], judge(needed), most=40)
    assert found.top == Form(needed, True)
    assert all(rung.kept < count for rung in found.rungs)


@given(st.integers(0, 1000))
def test_where_nothing_holds_every_rung_is_told_and_the_climb_ends(count: int) -> None:
    found = climb([str(node) for node in range(count)], judge(count))
    assert found.top is None
    assert len(found.rungs) <= MOST_RUNGS
    assert [rung.kept for rung in found.rungs] == sorted({rung.kept for rung in found.rungs})


def test_a_bounded_climb_returns_what_it_has() -> None:
    found = climb([str(node) for node in range(300)], judge(200), most=10)
    assert len(found.rungs) == 10
    assert found.top == Form(256, True)


def test_a_rung_that_cannot_be_made_does_not_hold() -> None:
    found = climb(["a", "b", "c", "d", "e"], lambda nodes: None if len(nodes) < 4 else Form(len(nodes), True))
    assert found.top == Form(4, True)
    assert len(found.rungs) == 1
