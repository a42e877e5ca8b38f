"""A work directory for each test, and measurements that are short."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.quantization import choosing
from engines.search import contenders, final
from tests.integration.quantization.workbench import QuantizationBench


@pytest.fixture
def bench(tmp_path: Path) -> QuantizationBench:
    """Give an empty work directory."""
    return QuantizationBench(tmp_path)


@pytest.fixture(autouse=True)
def _short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "FINAL_SECONDS", 0.1)
    monkeypatch.setattr(contenders, "SCREEN_SECONDS", 0.02)
    monkeypatch.setattr(final, "MOST_SECONDS", 0.0)
