from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.local.errors import LocalError
from services.local.lock import DataDirLock


def test_a_second_holder_is_rejected_with_the_first_ones_process(tmp_path: Path) -> None:
    first = DataDirLock(tmp_path / "data")
    first.acquire()
    with pytest.raises(LocalError, match=rf"already runs on .*data \(process {os.getpid()}\). Stop it first"):
        DataDirLock(tmp_path / "data").acquire()
    first.release()
    second = DataDirLock(tmp_path / "data")
    second.acquire()
    second.release()


def test_the_lock_of_a_killed_process_has_no_effect(tmp_path: Path) -> None:
    program = f"""
import os, pathlib, signal
from services.local.lock import DataDirLock
lock = DataDirLock(pathlib.Path({str(tmp_path)!r}))
lock.acquire()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False)
    assert (tmp_path / "lock").read_text().strip().isdigit()
    lock = DataDirLock(tmp_path)
    lock.acquire()
    assert (tmp_path / "lock").read_text().strip() == str(os.getpid())
    lock.release()
