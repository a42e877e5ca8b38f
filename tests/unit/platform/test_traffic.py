"""How often a user may call, and how often a project may be called for."""

from __future__ import annotations

from contextlib import suppress

import pytest

from services.platform import access, rates
from services.platform.access import EVERYBODY, Access, Permit, Role, enter
from services.platform.errors import LatheError
from services.platform.identity import Caller, Proof, become
from services.platform.interceptors.traffic import Traffic
from services.platform.quotas import CachedQuotas, Limits, Table
from services.platform.settings import Settings


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(rates, "monotonic", clock)
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
    monkeypatch.setattr(rates, "_MOST", 3)
    limits = Traffic(Settings(calls_per_second=10))
    for user in "abcd":
        calls(limits, user, 8)
        clock.now += 0.6
    assert set(limits._users._buckets) == {"c", "d"}


VISION, SPEECH = "projects/vision", "projects/speech"


class Quotas(CachedQuotas):
    """Quotas that are known already."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self._table = Table({VISION: Limits(calls_per_second=calls)})

    def latest(self) -> Table:
        return self._table


def begin(limits: Traffic, caller: Caller, **roles: Role) -> None:
    """Begin a call of a caller with roles in projects."""
    access._count.set(None)
    become(caller)
    limits.take(caller)
    enter(Permit(Access({f"projects/{name}": role for name, role in roles.items()}), Role.EDITOR))


ADA = Caller("ada", Proof.USER)


def test_a_call_counts_once_for_the_first_project_that_it_is_about(clock: Clock) -> None:
    limits = Traffic(Settings(), Quotas(3))
    for _ in range(3):
        begin(limits, ADA, vision=Role.EDITOR, speech=Role.EDITOR)
        for _ in range(5):
            assert access.is_visible([VISION, SPEECH])
            access.require_change("model", "models/x", VISION, [VISION])
    begin(limits, ADA, vision=Role.EDITOR)
    with pytest.raises(LatheError, match="3 calls a second about projects/vision, and its users made more") as refused:
        access.require_project(VISION)
    assert refused.value.metadata == {"project": VISION, "quota": "calls_per_second", "limit": "3"}
    # Another project is not limited, and what speech reads of vision is not vision's.
    for _ in range(9):
        begin(limits, ADA, speech=Role.VIEWER)
        assert access.is_visible([VISION, SPEECH])
    clock.now += 1
    begin(limits, ADA, vision=Role.EDITOR)
    access.require_project(VISION)


def test_what_a_caller_may_not_see_and_what_is_everybodys_counts_for_no_project(clock: Clock) -> None:
    limits = Traffic(Settings(), Quotas(1))
    for _ in range(5):
        begin(limits, ADA, speech=Role.VIEWER)
        assert not access.is_visible([VISION])
        assert access.is_visible([EVERYBODY])
        access.count_for(VISION)
        assert access._count.get() is not None
    begin(limits, ADA, vision=Role.VIEWER)
    access.count_for(VISION)  # the first that counts


def test_services_are_not_counted_for_projects_but_administrators_are(clock: Clock) -> None:
    limits = Traffic(Settings(), Quotas(1))
    for _ in range(5):
        begin(limits, Caller("ada", Proof.DELEGATE), vision=Role.VIEWER)
        assert access.is_visible([VISION])
    assert access._count.get() is None
    begin(limits, Caller("root", Proof.USER, is_admin=True))
    assert access.is_visible([VISION, SPEECH])
    begin(limits, Caller("anonymous"))
    with pytest.raises(LatheError, match="calls a second about projects/vision"):
        access.is_visible([VISION])


def test_nothing_is_set_up_for_a_call_while_no_project_has_a_limit() -> None:
    begin(Traffic(Settings(), Quotas(0)), ADA, vision=Role.VIEWER)
    assert access._count.get() is None
