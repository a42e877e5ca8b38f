"""Whose turn it is, against a plain writing of the same rules; and how far ahead tasks are sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.tasks.state.turns import SOON_SECONDS, Flow, Turns, Waiting, place, ranked

OWNERS = "abcd"
waitings = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(OWNERS)), max_size=30).map(
    lambda pairs: [Waiting(rank, owner, number, UUID(int=number)) for number, (rank, owner) in enumerate(pairs)]
)
helds = st.dictionaries(st.sampled_from(OWNERS), st.integers(0, 5))


def choose(waiting: Iterable[Waiting], held: dict[str, int], room: int) -> list[Waiting]:
    return Turns().choose(waiting, held, room)


def plainly(waiting: list[Waiting], held: dict[str, int], room: int) -> list[Waiting]:
    left, holds = list(waiting), Counter(held)
    chosen: list[Waiting] = []

    def last(owner: str) -> int:
        return max((turn for turn, each in enumerate(chosen, 1) if each.owner == owner), default=0)

    while left and len(chosen) < room:
        next_one = min(left, key=lambda each: (each.rank, holds[each.owner], last(each.owner), each.number))
        chosen.append(next_one)
        left.remove(next_one)
        holds[next_one.owner] += 1
    return chosen


@given(waitings, helds, st.integers(0, 40))
def test_priority_then_fair_share_then_age(waiting: list[Waiting], held: dict[str, int], room: int) -> None:
    assert choose(reversed(waiting), held, room) == plainly(waiting, held, room)


@given(waitings, helds, st.integers(1, 10))
def test_the_first_of_each_owner_are_enough_to_choose_from(
    waiting: list[Waiting], held: dict[str, int], room: int
) -> None:
    seen: Counter[tuple[int, str]] = Counter()
    first = []
    for each in waiting:
        seen[each.rank, each.owner] += 1
        if seen[each.rank, each.owner] <= room:
            first.append(each)
    assert choose(first, held, room) == choose(waiting, held, room)


def test_ten_thousand_tasks_of_one_keep_nobody_waiting() -> None:
    flood = [Waiting(9, "flood", number, UUID(int=number)) for number in range(10_000)]
    late = Waiting(9, "late", 10_000, UUID(int=10_000))
    assert choose([*flood, late], {"flood": 1}, 1) == [late]
    assert choose([*flood, late], {}, 2) == [flood[0], late]


@given(waitings, st.integers(1, 3))
def test_nobody_has_two_turns_while_another_waits_for_one(waiting: list[Waiting], slots: int) -> None:
    """However fast the workers are: with nothing held, turns go round."""
    turns, left, before = Turns(), [each._replace(rank=9) for each in waiting], ""
    while left:
        for chosen in turns.choose(left, {}, slots):
            assert chosen.owner != before or {each.owner for each in left} == {before}
            left.remove(chosen)
            before = chosen.owner


@given(waitings)
def test_a_place_is_about_the_turn_that_comes(waiting: list[Waiting]) -> None:
    """Within a priority: how far turns of a higher one still count is not known before they end."""
    waiting = [each._replace(rank=9) for each in waiting]
    order = [each.task for each in choose(waiting, {}, len(waiting))]
    ahead: dict[int, dict[str, int]] = {}
    for each in waiting:
        ahead.setdefault(each.rank, {}).setdefault(each.owner, 0)
        ahead[each.rank][each.owner] += 1
    for each in waiting:
        turn = sum(o.number <= each.number for o in waiting if (o.rank, o.owner) == (each.rank, each.owner))
        found, comes = place(ahead, 2, each.rank, each.owner, turn), order.index(each.task) + 3
        beside = len({o.owner for o in waiting})
        assert comes - 2 * beside <= found <= comes + 2 * beside
    assert ranked(9) == 0


@given(st.dictionaries(st.sampled_from(OWNERS), st.sampled_from([0.5, 1.0, 2.0, 3.0])), st.integers(1, 60))
def test_who_waits_all_the_time_holds_as_much_as_their_weight(weights: dict[str, float], room: int) -> None:
    waiting = [Waiting(9, OWNERS[n % 4], n, UUID(int=n)) for n in range(240)]
    got = Counter(each.owner for each in Turns(weights).choose(waiting, {}, room))
    shares = [got[owner] / weights.get(owner, 1.0) for owner in OWNERS]
    # Nobody is ahead by more than the one task that was chosen last.
    for owner, share in zip(OWNERS, shares, strict=True):
        assert share - min(shares) <= 1 / weights.get(owner, 1.0) + 1e-9


def test_turns_go_round_by_weight_if_work_is_too_fast_to_be_held() -> None:
    turns, got = Turns({"a": 3.0, "b": 0.5}), Counter[str]()
    left = [Waiting(9, OWNERS[n % 4], n, UUID(int=n)) for n in range(1200)]
    for _ in range(330):
        (chosen,) = turns.choose(left, {}, 1)
        left.remove(chosen)
        got[chosen.owner] += 1
    assert got["a"] == pytest.approx(3 * got["c"], rel=0.1)
    assert got["b"] == pytest.approx(got["d"] / 2, rel=0.1)
    assert got["c"] == pytest.approx(got["d"], abs=2)


def test_a_place_counts_as_many_turns_of_others_as_their_weight_gives_them() -> None:
    ahead = {9: {"a": 10, "b": 10, "c": 1}}
    assert place(ahead, 0, 9, "c", 1, weights={"a": 3.0}) == 1 + 3 + 1
    assert place(ahead, 0, 9, "a", 6, weights={"a": 3.0}) == 6 + 2 + 1


def test_slow_work_is_sent_one_ahead() -> None:
    flow = Flow()
    assert flow.room(0, slots=4, running=0, sent=0) == 4
    for minute in range(4):
        flow.ended(60.0 * minute)
    assert flow.room(200, slots=4, running=4, sent=0) == 1
    assert flow.room(200, slots=4, running=4, sent=1) == 0
    assert flow.room(200, slots=0, running=0, sent=0) == 1  # a worker may come


def test_fast_work_is_sent_as_far_ahead_as_it_is_soon_done() -> None:
    flow = Flow()
    for hundredth in range(1000):
        flow.ended(hundredth / 100, 5)
    assert 495 < flow.rate(10) < 505
    assert 500 * SOON_SECONDS - 3 < flow.room(10, slots=1, running=1, sent=0) < 500 * SOON_SECONDS + 4
    assert flow.rate(30) < 0.1


@given(st.lists(st.tuples(st.floats(0.001, 5), st.integers(0, 50), st.integers(0, 50)), max_size=20))
def test_something_is_always_on_the_way(steps: list[tuple[float, int, int]]) -> None:
    flow, now = Flow(), 0.0
    for passed, sent, running in steps:
        now += passed
        flow.ended(now, running)
        assert sent + max(flow.room(now, 3, running, sent), 0) >= 1
