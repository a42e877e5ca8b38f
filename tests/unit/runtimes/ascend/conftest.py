from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.runtimes.ascend.installation import install, use


@pytest.fixture
def cann(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation of CANN with the stand-in for ATC, named by the environment."""
    home = install(tmp_path / "cann")
    use(home, monkeypatch)
    return home
