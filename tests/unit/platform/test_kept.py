"""Answers that are kept for some seconds."""

from __future__ import annotations

import asyncio

import pytest

from services.platform import kept
from services.platform.kept import Kept


class Source:
    """Answers with the number of the question; with an error if it is broken."""

    def __init__(self) -> None:
        self.asked = 0
        self.broken = False

    async def __call__(self, key: str) -> str:
        self.asked += 1
        number = self.asked
        await asyncio.sleep(0)
        if self.broken:
            raise LookupError(key)
        return f"{key} {number}"


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1000.0]
    monkeypatch.setattr(kept, "monotonic", lambda: clock[0])
    return clock


async def test_all_who_want_an_answer_ask_once_until_it_is_old(now: list[float]) -> None:
    source = Source()
    answers = Kept(source, lambda: 5.0)
    assert await asyncio.gather(*(answers.get("a") for _ in range(9))) == ["a 1"] * 9
    now[0] += 4.9
    assert await answers.get("a") == "a 1"
    assert await answers.get("b") == "b 2"
    now[0] += 0.1
    assert await answers.get("a") == "a 3"


async def test_one_who_gives_up_ends_nobody_elses_question(now: list[float]) -> None:
    answers = Kept(Source(), lambda: 5.0)
    first, second = (asyncio.ensure_future(answers.get("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "a 1"


async def test_errors_are_not_kept(now: list[float]) -> None:
    source = Source()
    answers = Kept(source, lambda: 5.0)
    source.broken = True
    assert len(await asyncio.gather(*(answers.get("a") for _ in range(3)), return_exceptions=True)) == 3
    source.broken = False
    assert await answers.get("a") == "a 2"


async def test_the_latest_answer_is_there_at_once_and_renewed_meanwhile(now: list[float]) -> None:
    answers = Kept(Source(), lambda: 5.0)
    assert answers.latest("a") is None
    assert await answers.get("a") == "a 1"
    now[0] += 60
    assert answers.latest("a") == "a 1"
    assert await answers.get("a") == "a 2"
    assert answers.latest("a") == "a 2"
