"""The exec wrapper: death with the parent, and another account if the kernel allows no namespaces."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.local import launch

WRAPPER = Path(launch.__file__)


def run(user: str, cwd: Path, *command: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    arguments = [str(os.getpid()), "9", user, "--", *command]
    program = [
        f"import sys; sys.path.insert(0, {str(WRAPPER.parent)!r})",
        "import launch",
        prelude,
        f"launch.main({arguments!r})",
    ]
    python = [sys.executable, "-S", "-c", "\n".join(program)]
    return subprocess.run(python, capture_output=True, text=True, cwd=cwd, check=False)


def test_the_program_runs_as_the_caller(tmp_path: Path) -> None:
    assert run("same", tmp_path, "/usr/bin/id", "-u").stdout.strip() == str(os.geteuid())


def test_the_program_does_not_run_as_root(tmp_path: Path) -> None:
    result = run("other", tmp_path, "/usr/bin/id", "-u")
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) != 0


def test_a_program_whose_parent_is_gone_does_not_start(tmp_path: Path) -> None:
    arguments = [str(os.getppid()), "9", "same", "--", "/usr/bin/touch", "started"]
    result = subprocess.run([sys.executable, "-I", "-S", str(WRAPPER), *arguments], cwd=tmp_path, check=False)
    assert result.returncode == 1
    assert not (tmp_path / "started").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its account")
def test_without_namespaces_the_account_changes_and_private_parents_stay_accessible(tmp_path: Path) -> None:
    data = tmp_path / "closed" / "data"
    data.mkdir(parents=True)
    (data / "file").write_text("text")
    (tmp_path / "closed").chmod(0o700)
    forbid = "launch.enter_namespace = lambda account: launch._check(1, 'forbidden')"
    result = run("other", data, "/bin/sh", "-c", f"id -u; cat {data}/file; echo new > {data}/new", prelude=forbid)
    uid, text = result.stdout.split("\n")
    assert result.returncode == 0, result.stderr
    assert (int(uid), text) == (launch.other_account().pw_uid, "text")
    assert (data / "new").stat().st_uid == (data / "file").stat().st_uid == int(uid)
