from __future__ import annotations

import math
import threading
import time

import pytest

from engines.sandbox.deadline import Overrun, at_most, check, seconds_left


def steps(errors: type[Exception]) -> None:
    try:
        while True:
            time.sleep(0.01)
            check()
    except errors:
        return


def test_what_asks_between_its_steps_ends_in_time() -> None:
    with pytest.raises(Overrun), at_most(0.05):
        steps(ValueError)


def test_a_tool_s_own_handling_of_errors_does_not_swallow_it() -> None:
    with pytest.raises(Overrun), at_most(0.05):
        steps(Exception)


def test_time_is_no_longer_than_that_of_the_work_around_it() -> None:
    with at_most(60), at_most(600):
        assert 0 < seconds_left() <= 60
    with at_most(600), at_most(60):
        assert 0 < seconds_left() <= 60


def test_what_is_not_bounded_has_all_the_time() -> None:
    with at_most(0.0):
        assert seconds_left() <= 0
    assert seconds_left() == math.inf
    check()


def test_a_thread_has_the_time_that_it_is_given_itself() -> None:
    found: list[float] = []
    with at_most(0.5):
        thread = threading.Thread(target=lambda: found.append(seconds_left()))
        thread.start()
        thread.join()
    assert found == [math.inf]
