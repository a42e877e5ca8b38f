"""`lathe up`, `lathe status` and `lathe logs` over the real services."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from lathe.template.v1 import template_service_pb2
from lathe_client.connection import Connection

from tests.e2e.conftest import COMMAND, Suite, alive, clean_environment, start_suite

APIS = ["registry", "template", "converter", "quantizer", "optimizer", "evaluator"]
WORKERS = ["worker-conversion", "worker-quantization", "worker-optimization", "worker-profile", "worker-evaluation"]
NAMES = ["postgres", "nats", "s3", *APIS, *WORKERS]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Suite]:
    suite = start_suite(tmp_path / "state")
    yield suite
    if suite.process.poll() is None:
        suite.stop()


def test_everything_is_healthy_and_the_table_is_true(stack: Suite) -> None:
    parts = stack.json("status")
    assert [part["name"] for part in parts] == NAMES
    assert {part["health"] for part in parts} == {"healthy"}
    assert [part for part in parts if not (part["pid"] and part["memory_bytes"] and part["since"])] == []
    assert {part["name"]: part["address"] for part in parts} == {n: p["address"] for n, p in stack.parts.items()}
    table = stack.lathe("status").stdout
    assert all(name in table for name in NAMES)


def test_nothing_listens_beyond_this_machine(stack: Suite) -> None:
    listening = []
    for process in stack.family():
        # A process that served one connection may end meanwhile.
        with contextlib.suppress(psutil.NoSuchProcess):
            listening += [c.laddr for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert len(listening) >= 6
    assert {address.ip.removeprefix("::ffff:") for address in listening} == {"127.0.0.1"}


def test_a_second_one_on_the_same_folder_is_refused(stack: Suite) -> None:
    result = stack.lathe("up", "--data-dir", str(stack.data_dir), check=False)
    assert result.returncode == 1
    assert f"already runs on {stack.data_dir} (process {stack.process.pid})" in result.stderr
    assert "Traceback" not in result.stderr


def test_logs_of_every_part_are_shown(stack: Suite) -> None:
    shown = stack.lathe("logs", "-n", "200").stdout
    for name in (*APIS, *WORKERS):
        assert f"{name:<{max(map(len, NAMES))}} │ " in shown
    assert "ready" in stack.lathe("logs", "registry", "-n", "100000").stdout


def test_a_killed_service_comes_back_where_it_was(stack: Suite) -> None:
    before = next(part for part in stack.json("status") if part["name"] == "template")
    os.kill(before["pid"], signal.SIGKILL)
    wait_for(lambda: stack.lathe("status", check=False).returncode == 0)
    after = next(part for part in stack.json("status") if part["name"] == "template")
    assert after["pid"] != before["pid"]
    assert after["address"] == before["address"]
    assert "template ended with status -9" in (stack.data_dir / "up.txt").read_text()


def test_the_state_survives_a_restart_and_nothing_stays_behind(own: Suite) -> None:
    request = template_service_pb2.ListTemplatesRequest(page_size=1000)
    with Connection({"template": own.address("template")}) as connection:
        before = connection.templates.ListTemplates(request)
        assert before.templates
        assert own.stop() == []
        assert own.process.returncode == 0
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            connection.templates.ListTemplates(request, timeout=5)
    again = start_suite(own.data_dir)
    try:
        with Connection({"template": again.address("template")}) as connection:
            after = connection.templates.ListTemplates(request)
        assert list(after.templates) == list(before.templates)
    finally:
        left = again.stop(signal.SIGINT)
    assert left == []
    assert again.lathe("status", check=False).returncode == 4


def test_kill_9_leaves_nothing_behind_either(own: Suite) -> None:
    family = own.family()
    own.process.kill()
    own.process.wait()
    wait_for(lambda: not any(map(alive, family)))
    assert own.lathe("status", check=False).returncode == 4


@pytest.mark.parametrize(
    ("said", "times"), [("Starting in", 3), ("postgres answers", 1), ("registry is healthy", 1), ("is healthy", 3)]
)
def test_signals_while_it_starts_leave_nothing_behind(tmp_path: Path, said: str, times: int) -> None:
    command = [*COMMAND, "up", "--data-dir", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=clean_environment())
    assert process.stderr
    while said not in process.stderr.readline():
        assert process.poll() is None
    family = psutil.Process(process.pid).children(recursive=True)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)
    family += psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    assert process.wait(60) == 130
    assert not [each for each in family if alive(each)]


def test_a_service_that_is_told_wrong_things_ends_the_start_with_its_reason(tmp_path: Path) -> None:
    environment = clean_environment() | {"LATHE_LOG_LEVEL": "loud"}
    command = [*COMMAND, "up", "--data-dir", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert result.returncode == 1
    assert "LATHE_LOG_LEVEL" in result.stderr
    assert "Traceback" not in result.stderr
