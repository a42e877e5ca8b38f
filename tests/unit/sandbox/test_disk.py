"""What a job holds of a disk is counted, however it hides it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from engines.sandbox import disk

LONG = "a" * 200
NOBODY = 1 << 30
"""A process that is not there."""


def test_files_of_all_folders_count(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(bytes(1 << 20))
    (tmp_path / "link").symlink_to("/usr")
    assert 1 << 20 <= disk.held(tmp_path, NOBODY) < 2 << 20


def test_folders_that_nobody_can_look_into_hide_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    for _ in range(25):
        os.mkdir(LONG, dir_fd=at)
        below = os.open(LONG, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(at)
    whole = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: whole)
    assert disk.held(tmp_path, NOBODY) == whole.used
    subprocess.run(["rm", "-r", str(tmp_path / LONG)], check=True)
