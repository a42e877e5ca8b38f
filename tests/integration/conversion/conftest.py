"""A bench per test, and short profiles: no test asserts a time."""

from pathlib import Path

import pytest

from engines.conversion import component as conversion_component
from engines.timing import paired as profile
from tests.integration.conversion.workbench import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture(autouse=True)
def short_profiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*args: object, **kwargs: object) -> profile.ProfileReport:
        return profile.profile(*args, **kwargs, budget_seconds=0.0)  # type: ignore[arg-type]  # handed through

    monkeypatch.setattr(conversion_component, "profile", short)
