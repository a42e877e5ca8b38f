"""Tools in process groups of their own: what they say, how they end, and that nothing of them is left."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from engines.sandbox.deadline import Overrun, at_most
from engines.sandbox.tools import run_tool

LEAVES_A_CHILD = (
    "import subprocess, sys; print(subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL).pid, flush=True)"
)


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def gone(pid: int) -> bool:
    """Return whether a process ended; one that nobody waits for is gone, too."""
    for _ in range(3000):
        try:
            if ") Z" in Path(f"/proc/{pid}/stat").read_text():
                return True
        except OSError:
            return True
        time.sleep(0.02)
    return False


def test_both_streams_and_the_status_are_told(tmp_path: Path) -> None:
    lines: list[str] = []
    code = "import os, sys; print(os.getcwd(), flush=True); print(os.environ['WORD'], file=sys.stderr); sys.exit(3)"
    ended = run_tool(python(code), {**os.environ, "WORD": "ä"}, folder=tmp_path, on_line=lines.append)
    assert (ended.status, ended.text) == (3, f"{tmp_path}\nä")
    assert lines == [str(tmp_path), "ä"]


def test_what_a_tool_leaves_behind_is_killed() -> None:
    ended = run_tool(python(LEAVES_A_CHILD), os.environ)
    assert ended.status == 0
    assert gone(int(ended.text))


def test_a_tool_without_time_is_killed_with_what_it_started() -> None:
    lines: list[str] = []
    code = f"{LEAVES_A_CHILD}; import time; time.sleep(600)"
    with pytest.raises(Overrun), at_most(0.5):
        run_tool(python(code), os.environ, on_line=lines.append)
    assert all(gone(int(pid)) for pid in lines)


def test_an_error_of_the_listener_ends_the_tool() -> None:
    pids: list[int] = []

    def refuse(line: str) -> None:
        pids.append(int(line))
        raise ValueError(line)

    with pytest.raises(ValueError, match=r"\d+"):
        run_tool(python("import os, time; print(os.getpid(), flush=True); time.sleep(600)"), os.environ, on_line=refuse)
    assert gone(pids[0])
