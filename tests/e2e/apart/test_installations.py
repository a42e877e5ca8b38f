"""`lathe up` in installations of its own: restarts, kills, signals while it starts, and a start that cannot be."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import grpc
import psutil
import pytest
from lathe.template.v1 import template_service_pb2
from lathe_client.connection import Connection

from tests.children import alive
from tests.e2e.conftest import COMMAND, STOP_SECONDS, clean_environment, left_of, start_suite
from tests.eventually import wait_for


def test_kill_9_leaves_nothing_behind_and_the_next_start_finds_the_state(tmp_path: Path) -> None:
    request = template_service_pb2.ListTemplatesRequest(page_size=1000)
    first = start_suite(tmp_path / "state")
    family = first.family()
    with Connection({"template": first.address("template")}) as connection:
        before = connection.templates.ListTemplates(request)
        assert before.templates
        first.process.kill()
        first.process.wait()
        wait_for(lambda: not any(map(alive, family)))
        with pytest.raises(grpc.RpcError, match="UNAVAILABLE"):
            connection.templates.ListTemplates(request, timeout=60)
    assert first.lathe("status", check=False).returncode == 4
    again = start_suite(first.data_dir, "--no-worker")
    try:
        with Connection({"template": again.address("template")}) as connection:
            after = connection.templates.ListTemplates(request)
        assert list(after.templates) == list(before.templates)
    finally:
        left = again.stop(signal.SIGINT)
    assert left == []
    assert again.lathe("status", check=False).returncode == 4


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
    assert process.wait(STOP_SECONDS) == 130
    assert left_of(family) == []


def test_a_service_that_is_told_wrong_things_ends_the_start_with_its_reason(tmp_path: Path) -> None:
    environment = clean_environment() | {"LATHE_LOG_LEVEL": "loud"}
    command = [*COMMAND, "up", "--data-dir", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert result.returncode == 1
    assert "LATHE_LOG_LEVEL" in result.stderr
    assert "Traceback" not in result.stderr
