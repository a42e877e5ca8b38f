"""Evaluations to compare, in a folder of the test's own."""

from pathlib import Path

import pytest

from tests.unit.comparison.evaluations import Evaluations


@pytest.fixture
def evaluations(tmp_path: Path) -> Evaluations:
    return Evaluations(tmp_path)
