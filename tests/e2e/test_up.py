"""`lathe up`, `lathe status` and `lathe logs` over the real services."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from typing import Any

import psutil

from tests.e2e.conftest import Suite
from tests.eventually import wait_for

APIS = ["registry", "template", "converter", "quantizer", "optimizer", "evaluator"]
WORKERS = ["worker-conversion", "worker-quantization", "worker-optimization", "worker-profile", "worker-evaluation"]
NAMES = ["postgres", "nats", "s3", *APIS, *WORKERS]


def test_everything_is_healthy_and_the_table_is_true(stack: Suite) -> None:
    wait_for(lambda: stack.lathe("status", check=False).returncode == 0)  # a part that is late is not healthy
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
    before = template(stack)
    os.kill(before["pid"], signal.SIGKILL)
    wait_for(lambda: template(stack)["pid"] not in (None, before["pid"]))
    wait_for(lambda: stack.lathe("status", check=False).returncode == 0)
    assert template(stack)["address"] == before["address"]
    assert "template ended with status -9" in (stack.data_dir / "up.txt").read_text()


def template(stack: Suite) -> dict[str, Any]:
    """Return what the table says of a service; parts that are not healthy are in it, too."""
    table = json.loads(stack.lathe("status", "--output", "json", check=False).stdout)
    (part,) = [part for part in table if part["name"] == "template"]
    return dict(part)
