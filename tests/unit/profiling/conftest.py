"""Short measurements: tests look at what is measured, not at how exactly."""

from __future__ import annotations

import pytest

from engines.profiling import measuring


@pytest.fixture(autouse=True)
def short_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "LOAD_SECONDS", 0.02)
