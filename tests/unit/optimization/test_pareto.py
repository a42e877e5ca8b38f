from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engines.failures import EngineFailure, FailureReason
from engines.search.entry import Entry, dominates, mark_pareto
from engines.timing.paired import Latency
from tests.unit.optimization.forms import ORT

FIGURES = st.tuples(*[st.integers(0, 3).map(float)] * 3)


def entry(speedup: float, accuracy: float, size: int) -> Entry:
    return Entry(ORT, latency=Latency("", 1.0, 1.0, 1.0, speedup, speedup, speedup), accuracy=accuracy, size_bytes=size)


def test_only_what_nothing_beats_everywhere_is_marked() -> None:
    fast, exact, small = entry(4.0, 0.7, 50), entry(1.0, 0.8, 100), entry(2.0, 0.7, 20)
    beaten = entry(2.0, 0.7, 60)
    failed = entry(9.0, 0.9, 1)
    failed.failure = EngineFailure(FailureReason.PARITY_FAILED, "wrong")
    unmeasured = Entry(ORT, size_bytes=1)
    everyone = [fast, exact, small, beaten, failed, unmeasured]
    mark_pareto(everyone)
    assert [one.pareto for one in everyone] == [True, True, True, False, False, False]


def test_equals_stand_beside_each_other() -> None:
    twins = [entry(2.0, 0.70001, 10), entry(2.0, 0.70002, 10)]
    mark_pareto(twins)
    assert all(twin.pareto for twin in twins)


@given(FIGURES, FIGURES)
def test_two_never_dominate_each_other(first: tuple[float, float, float], second: tuple[float, float, float]) -> None:
    assert not (dominates(first, second) and dominates(second, first))
    assert not dominates(first, first)


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8))
def test_something_is_always_on_the_front(figures: list[tuple[int, int, int]]) -> None:
    entries = [entry(float(speedup), accuracy / 4, size) for speedup, accuracy, size in figures]
    mark_pareto(entries)
    assert any(one.pareto for one in entries)
