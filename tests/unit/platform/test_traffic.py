"""How often a user may call."""

from __future__ import annotations

from contextlib import suppress

import pytest

from services.platform.errors import LatheError
from services.platform.identity import Caller, Proof
from services.platform.interceptors import traffic
from services.platform.interceptors.traffic import Traffic
from services.platform.settings import Settings


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(traffic, "monotonic", clock)
    return clock


def calls(limits: Traffic, user: str, count: int, proof: Proof = Proof.USER) -> int:
    """Make calls; return how many were taken."""
    taken = 0
    for _ in range(count):
        with suppress(LatheError):
            limits.take(Caller(user, proof))
            taken += 1
    return taken


def test_each_user_has_a_second_at_once_and_then_the_rate(clock: Clock) -> None:
    limits = Traffic(Settings(calls_per_second=10))
    assert calls(limits, "ada", 50) == 10
    with pytest.raises(LatheError, match="10 calls a second of one user, and ada made more") as refused:
        limits.take(Caller("ada", Proof.USER))
    assert (refused.value.reason, refused.value.retry_after) == ("QUOTA_EXCEEDED", 0.1)
    assert refused.value.metadata == {"quota": "calls_per_second", "limit": "10"}
    assert calls(limits, "bob", 5) == 5
    clock.now += 0.55
    assert calls(limits, "ada", 50) == 5
    clock.now += 3600
    assert calls(limits, "ada", 50) == 10


def test_services_and_installations_without_a_limit_are_not_counted(clock: Clock) -> None:
    assert calls(Traffic(Settings(calls_per_second=10)), "ada", 50, Proof.DELEGATE) == 50
    assert calls(Traffic(Settings()), "ada", 50) == 50


def test_who_is_quiet_is_forgotten(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "_MOST_USERS", 3)
    limits = Traffic(Settings(calls_per_second=10))
    for user in "abcd":
        calls(limits, user, 1)
        clock.now += 0.6
    assert set(limits._buckets) == {"c", "d"}
