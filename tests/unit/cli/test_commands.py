"""The command line in a shell: its output, exit codes and imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.local.endpoints import Endpoint, write_endpoints

HEAVY = {
    "grpc",
    "google.protobuf",
    "torch",
    "numpy",
    "onnx",
    "openvino",
    "minio",
    "urllib3",
    "nats",
    "asyncpg",
    "psutil",
}


def lathe(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("LATHE_")}
    return subprocess.run(
        [sys.executable, "-m", "services.cli.main", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**inherited, **environment},
        timeout=240,
        check=False,
    )


def test_version(tmp_path: Path) -> None:
    result = lathe("--version", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "lathe 0.2.0\n")


def test_help_loads_neither_grpc_nor_a_framework() -> None:
    program = (
        "import sys; sys.argv = ['lathe', '--help']\n"
        "from services.cli.main import run\n"
        "try: run()\n"
        "except SystemExit: pass\n"
        f"print('loaded:', {HEAVY} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "loaded: set()" in result.stdout
    assert all(command in result.stdout for command in ("up", "status", "logs"))


def test_a_wrong_command_line_is_a_usage_error(tmp_path: Path) -> None:
    assert lathe("nonsense", cwd=tmp_path).returncode == 2
    assert lathe("status", "--output", "xml", cwd=tmp_path).returncode == 2
    result = lathe("--address", "registry", "status", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: --address 'registry' must be service=host:port")
    result = lathe("--address", "regstry=localhost:1", "status", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.startswith("error: --address names 'regstry', which is none of registry, template,")


def test_status_if_nothing_runs(tmp_path: Path) -> None:
    result = lathe("status", cwd=tmp_path)
    assert result.returncode == 4
    assert "`lathe up` starts the suite" in result.stderr
    result = lathe("status", cwd=tmp_path, LATHE_OUTPUT="json")
    assert (result.returncode, json.loads(result.stdout)) == (4, [])


def test_status_of_a_stack_that_was_killed(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    parts = [Endpoint("registry", "service", "127.0.0.1:1", ended.pid), Endpoint("worker-cpu", "worker", "", ended.pid)]
    write_endpoints(tmp_path, ended.pid, parts)
    result = lathe("--data-dir", str(tmp_path), "status", "--output", "json", cwd=tmp_path)
    assert result.returncode == 4
    assert [(part["name"], part["health"], part["pid"]) for part in json.loads(result.stdout)] == [
        ("registry", "down", None),
        ("worker-cpu", "down", None),
    ]


def test_status_of_a_stack_that_runs_partly(tmp_path: Path) -> None:
    parts = [Endpoint("registry", "service", "127.0.0.1:1", 0), Endpoint("worker-cpu", "worker", "", os.getpid())]
    write_endpoints(tmp_path, os.getpid(), parts)
    result = lathe("status", "--data-dir", str(tmp_path), "-o", "json", cwd=tmp_path)
    assert result.returncode == 3
    worker = json.loads(result.stdout)[1]
    assert worker["health"] == "healthy"
    assert worker["memory_bytes"] > 1_000_000
    assert worker["since"].startswith("20")


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    folder = tmp_path / ".lathe" / "logs"
    folder.mkdir(parents=True)
    (folder / "registry.log").write_text("".join(f"r{number}\n" for number in range(30)))
    (folder / "converter.log").write_text("[c] 0\n")
    return tmp_path


def test_logs_of_one_process_are_printed_as_written(logs: Path) -> None:
    result = lathe("logs", "registry", "-n", "2", cwd=logs)
    assert (result.returncode, result.stdout) == (0, "r28\nr29\n")


def test_logs_of_all_processes_have_their_names(logs: Path) -> None:
    assert lathe("logs", "-n", "1", cwd=logs).stdout == "converter │ [c] 0\nregistry  │ r29\n"


def test_logs_as_json(logs: Path) -> None:
    result = lathe("logs", "converter", "--output", "json", cwd=logs)
    assert json.loads(result.stdout) == {"name": "converter", "line": "[c] 0"}


def test_missing_logs_are_reported(logs: Path) -> None:
    result = lathe("logs", "nobody", cwd=logs)
    assert (result.returncode, result.stderr) == (3, "error: No log of nobody; logs exist of converter, registry.\n")
    assert lathe("logs", cwd=logs / ".lathe").returncode == 3


def test_logs_follow_until_interrupted(logs: Path) -> None:
    log = logs / ".lathe" / "logs" / "registry.log"
    command = [sys.executable, "-m", "services.cli.main", "logs", "registry", "-f", "-n", "1"]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=logs)
    assert follower.stdout
    assert follower.stdout.readline() == "r29\n"
    with log.open("a") as file:
        file.write("appen")
        file.flush()
        file.write("ded\n")
    assert follower.stdout.readline() == "appended\n"
    os.truncate(log, 0)
    with log.open("a") as file:
        file.write("again\n")
    assert follower.stdout.readline() == "again\n"
    follower.send_signal(2)
    assert follower.wait(timeout=120) == 130
