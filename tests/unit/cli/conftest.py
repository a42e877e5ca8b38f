from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from services.cli.main import run
from tests.unit.cli.suite import Suite, serving


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


Lathe = Callable[..., Ended]


@pytest.fixture(scope="session")
def served() -> Iterator[Suite]:
    with serving() as suite:
        yield suite


@pytest.fixture
def suite(served: Suite) -> Suite:
    served.reset()
    return served


@pytest.fixture
def lathe(suite: Suite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Lathe:
    """Run a command line in this process against the suite."""
    for name in ("LATHE_OUTPUT", "LATHE_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def command(*words: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["lathe", *suite.options(), *words])
        with pytest.raises(SystemExit) as ended:
            contextvars.copy_context().run(run)
        printed = capsys.readouterr()
        return Ended(int(ended.value.code or 0), printed.out, printed.err)

    return command
