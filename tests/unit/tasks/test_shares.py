"""Which kind is next on a worker of several: no kind keeps another one waiting."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.tasks.worker.shares import MEMORY_SECONDS, Shares

KINDS = ("conversion", "profile", "evaluation")


@given(st.dictionaries(st.sampled_from(KINDS), st.floats(2, 50), min_size=2))
def test_kinds_that_always_wait_get_equal_times_however_long_their_tasks_are(lengths: dict[str, float]) -> None:
    shares, now, spent = Shares(lengths), 0.0, dict.fromkeys(lengths, 0.0)
    while now < 1000:
        kind = shares.order()[0]
        now += lengths[kind]
        spent[kind] += lengths[kind]
        shares.spent(kind, now, lengths[kind])
    # What was spent long ago fades, so that the shares are not exact.
    assert max(spent.values()) - min(spent.values()) < 2.5 * max(lengths.values())


def test_what_was_not_served_goes_first_and_equals_take_turns() -> None:
    shares = Shares(KINDS)
    assert shares.order() == list(KINDS)
    for number, kind in enumerate(KINDS):
        shares.spent(kind, float(number), 0.0)
    assert shares.order() == list(KINDS)
    shares.spent("conversion", 4.0, 0.0)
    assert shares.order() == ["profile", "evaluation", "conversion"]


def test_a_kind_of_which_nothing_came_for_long_does_not_keep_the_others_out_for_long() -> None:
    shares = Shares(["conversion", "profile"])
    for number in range(10_000):
        shares.spent("conversion", number * 60.0, 60.0)
    now, served = 10_000 * 60.0, 0
    while shares.order()[0] == "profile":
        now += 60
        served += 1
        shares.spent("profile", now, 60.0)
    assert served * 60 < MEMORY_SECONDS
