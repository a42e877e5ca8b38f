"""LATHE_SANDBOX=required: who cannot confine strangers' code does not start."""

from __future__ import annotations

from pathlib import Path

import pytest

from engines.sandbox import Child, Layer, Sandbox
from services.platform.settings import ConfigurationError, Settings
from services.process.confinement import require_confinement
from tests.integration.sandbox.test_kernel import needs_landlock

BARE = Sandbox({"seccomp": Layer(True, "socket"), "landlock": Layer(False, "Function not implemented")})


async def test_a_machine_that_confines_starts_and_leaves_nothing(tmp_path: Path) -> None:
    needs_landlock()
    await require_confinement(Settings(sandbox="required", data_dir=tmp_path))
    assert not list((tmp_path / "work").iterdir())


async def test_a_machine_that_does_not_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Child, "sandbox", BARE)
    await require_confinement(Settings())
    with pytest.raises(ConfigurationError, match=r"LATHE_SANDBOX.*landlock \(Function not implemented\)"):
        await require_confinement(Settings(sandbox="required", data_dir=tmp_path))
