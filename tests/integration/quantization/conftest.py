"""A work directory for each test, and measurements that are short."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from engines.quantization import choosing
from engines.timing import paired as profile
from tests.integration.quantization.workbench import QuantizationBench


@pytest.fixture
def bench(tmp_path: Path) -> QuantizationBench:
    """Give an empty work directory."""
    return QuantizationBench(tmp_path)


@pytest.fixture(autouse=True)
def _short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*args: object, budget_seconds: float, **kwargs: object) -> object:
        return profile.profile(*args, budget_seconds=0.02, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(choosing, "profile", functools.wraps(profile.profile)(short))
