"""A work directory for each test."""

from pathlib import Path

import pytest

from tests.unit.evaluation.kit import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """An empty work directory."""
    return Desk(tmp_path)
