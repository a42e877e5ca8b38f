"""Jobs that end well, whatever they print, and what they find around them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines.sandbox import Limits, Progress, run_sync
from tests.integration.sandbox.conftest import GENEROUS, TESTS, Run


async def test_a_job_gets_its_request_and_reports(run: Run, tmp_path: Path) -> None:
    reports: list[Progress] = []
    lines: list[str] = []

    async def listen(line: str) -> None:
        lines.append(line)

    result = await run("echo", {"a": [1, "é", None]}, on_progress=reports.append, on_log=listen)
    assert result["echo"] == {"a": [1, "é", None]}
    assert reports == [Progress(0.5, "half way"), Progress(1.0, "done")]
    assert lines == [f"working in {result['cwd']}"]


async def test_the_environment_is_scrubbed(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LATHE_S3_SECRET_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "LD_PRELOAD", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = await run("surroundings")
    environment = found["environment"]
    assert "secret" not in environment.values()
    assert environment["OMP_NUM_THREADS"] == "2"
    assert environment["HOME"].startswith(str(tmp_path))
    assert environment["TMPDIR"].startswith(str(tmp_path))


async def test_nothing_but_the_control_pipe_is_inherited(run: Run, tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        found = await run("surroundings")
    assert found["descriptors"].pop("0") == "/dev/null"
    assert all(target.startswith("pipe:") for target in found["descriptors"].values())
    assert len(set(found["descriptors"].values())) == 2  # one for stdout and stderr, one to answer on
    assert found["stdin"] == ""
    assert found["umask"] == 0o077
    assert found["no_new_privileges"]
    assert set(found["capabilities"]) == {"0" * 16}


async def test_100_mb_of_log_reach_a_listener_line_by_line(run: Run) -> None:
    count = 0

    def listen(line: str) -> None:
        nonlocal count
        count += len(line) + 1

    await run("flood_log", {"megabytes": 100}, on_log=listen)
    assert count == 100_000_000


async def test_a_line_without_end_is_cut(run: Run) -> None:
    lines: list[str] = []
    await run("one_long_line", on_log=lines.append)
    assert len(lines) == 1
    assert lines[0].startswith("y" * 16384 + " …")
    assert f"{(8 << 20) - 16384:,} more bytes" in lines[0]


async def test_odd_bytes_progress_bars_and_native_output_become_lines(run: Run) -> None:
    lines: list[str] = []
    await run("odd_bytes", on_log=lines.append)
    assert lines[0].endswith(" café �")
    assert lines[-2:] == ["done", "from C"]


async def test_a_result_of_20_mb(run: Run) -> None:
    assert len((await run("huge_result", {"bytes": 20 << 20}))["text"]) == 20 << 20


async def test_a_request_of_20_mb(run: Run) -> None:
    assert len((await run("echo", {"text": "q" * (20 << 20)}))["echo"]["text"]) == 20 << 20


async def test_reports_in_a_tight_loop_are_thinned_out(run: Run) -> None:
    reports: list[Progress] = []
    await run("many_reports", on_progress=reports.append)
    assert len(reports) < 1000


async def test_a_listener_that_fails_fails_the_job(run: Run) -> None:
    def listen(line: str) -> None:
        raise LookupError("the listener's own error")

    with pytest.raises(LookupError, match="own error"):
        await run("flood_log", {"megabytes": 1}, on_log=listen)


async def test_the_frameworks_work_inside(run: Run) -> None:
    result = await run("frameworks", limits=Limits(4 << 30, 240))
    assert result["onnxruntime"] == result["openvino"]
    assert len(result["torch"][0]) == 4
    assert result["cpu"]


def test_library_users_need_no_event_loop(tmp_path: Path) -> None:
    result = run_sync("tests.integration.sandbox.jobs:echo", {"a": 1}, tmp_path, GENEROUS, readable=[TESTS])
    assert result["echo"] == {"a": 1}


@pytest.mark.parametrize("how", [[], ["--bare"]])
def test_a_job_can_be_run_again_by_hand(tmp_path: Path, how: list[str]) -> None:
    request = {"source": "value = 6 * 7"}
    run_sync("tests.integration.sandbox.jobs:user_code", request, tmp_path, GENEROUS, readable=[TESTS])
    environment = {"PYTHONPATH": str(TESTS.parent), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "repro.py", *how]
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    assert json.loads(again.stdout) == {"value": 42}
