from __future__ import annotations

from services.local.restart import Backoff


def test_delays_double_up_to_half_a_minute_and_reset_after_a_minute_of_running() -> None:
    now = [0.0]
    backoff = Backoff(clock=lambda: now[0])
    delays = []
    for _ in range(9):
        delays.append(backoff.schedule())
        now[0] += delays[-1]
        backoff.started()
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    now[0] += 61
    assert backoff.schedule() == 0.5


def test_a_start_is_due_at_its_time() -> None:
    now = [10.0]
    backoff = Backoff(clock=lambda: now[0])
    assert not backoff.due()
    backoff.schedule()
    assert not backoff.due()
    now[0] += 0.5
    assert backoff.due()
    backoff.started()
    assert not backoff.due()
    assert backoff.pending is None
