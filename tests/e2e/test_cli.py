"""The command line as scripts use it: exit codes, JSON, and the verbs of tasks."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from services.local.ports import free_port
from tests.e2e.calls import documents
from tests.e2e.conftest import Suite
from tests.e2e.desk import Desk
from tests.e2e.tiny import network_source
from tests.eventually import wait_for

EXIT = {
    0: ["models", "list"],
    2: ["templates", "list", "--limit", "none"],
    3: ["models", "get", "none"],
    7: ["architectures", "delete", "tinynet"],
}


@pytest.mark.parametrize("code", EXIT)
def test_exit_codes(desk: Desk, code: int) -> None:
    done = desk.suite.lathe(*EXIT[code], check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["convert", "tiny", "-t", "tiny"],
        ["convert", "tiny/1", "-t", "tiny", "--set", "speed"],
        ["convert", "tiny/1", "-t", "tiny", "--set", "runtime=slide-rule"],
        ["models", "list", "--order-by", "colour"],
        ["tasks", "list", "--state", "SLEEPING"],
        ["--address", "registry", "models", "list"],
    ],
)
def test_usage_errors_say_what_to_do(desk: Desk, arguments: list[str]) -> None:
    done = desk.suite.lathe(*arguments, check=False)
    assert done.returncode == 2
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_a_service_that_does_not_answer(desk: Desk) -> None:
    done = desk.suite.lathe("--address", f"registry=127.0.0.1:{free_port()}", "models", "list", check=False)
    assert done.returncode == 4
    assert "lathe up" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["models", "list"],
        ["models", "versions"],
        ["models", "get", "tiny"],
        ["models", "get", "tiny/1"],
        ["models", "describe", "tiny/1"],
        ["models", "diff", "tiny/1", "tiny/2"],
        ["models", "lineage", "tiny/1"],
        ["models", "update", "tiny", "--description", "[bold]tiny[/bold]"],
        ["architectures", "list"],
        ["architectures", "get", "tinynet"],
        ["templates", "list"],
        ["templates", "get", "tiny"],
        ["templates", "resolve", "tiny", "--version", "tiny/1"],
    ],
    ids=" ".join,
)
def test_json_can_be_parsed_and_tables_be_printed(desk: Desk, arguments: list[str]) -> None:
    assert desk.suite.json(*arguments)
    assert desk.suite.lathe(*arguments).stdout.strip()


def test_a_template_that_was_shown_can_be_created_again(desk: Desk, tmp_path: Path) -> None:
    shown = desk.suite.json("templates", "get", "tiny")
    file = tmp_path / "copy.json"
    file.write_text(json.dumps(shown | {"display_name": "Copy of tiny"}))
    made = desk.suite.json("templates", "create", str(file))
    assert made["components"] == shown["components"]
    assert made["uid"] != shown["uid"]
    desk.suite.lathe("templates", "delete", made["name"])
    assert desk.suite.lathe("templates", "get", made["name"], check=False).returncode == 3


def test_search_forgives_slips_and_mine_shows_ones_own(desk: Desk) -> None:
    found = desk.suite.json("templates", "list", "--search", "openvno", "--device", "cpu-x86-64")
    assert found
    assert all("openvino" in each["name"] for each in found)
    assert [each["name"] for each in desk.suite.json("templates", "list", "--mine", "--search", "tiny")] == [
        "templates/tiny"
    ]


def test_what_is_referred_to_is_not_deleted(desk: Desk) -> None:
    for arguments in (["models", "delete", "tiny"], ["architectures", "delete", "tinynet"]):
        done = desk.suite.lathe(*arguments, check=False)
        assert done.returncode == 7, done.stderr
    assert desk.suite.json("models", "get", "tiny/1")


def test_nothing_is_uploaded_for_a_model_that_does_not_exist(desk: Desk, tmp_path: Path) -> None:
    stored = desk.keys("cas/")
    file = tmp_path / "unseen.pth"
    file.write_bytes(b"never uploaded")
    done = desk.suite.lathe("models", "push", "unmade", str(file), "--format", "PTH", check=False)
    assert done.returncode == 3
    assert "Add --create" in done.stderr
    assert desk.keys("cas/") == stored


def test_pushing_the_same_file_again_sends_no_bytes(desk: Desk) -> None:
    stored = desk.keys("cas/")
    desk.suite.json("models", "push", "copies", str(desk.weights[0]), "--create", "--architecture", "tinynet")
    assert desk.keys("cas/") == stored
    desk.suite.lathe("models", "delete", "copies", "--force")
    assert desk.suite.lathe("models", "get", "copies", check=False).returncode == 3


def test_a_failing_parity_names_the_node_and_can_be_waived(desk: Desk) -> None:
    strict = ["convert", desk.keyed, "-t", "tiny", "--set", "error_threshold=1e-12"]
    refused = desk.suite.lathe(*strict, check=False)
    assert refused.returncode == 5, refused.stderr
    assert "PARITY_FAILED" in refused.stderr
    assert "node: " in refused.stderr
    told = desk.suite.lathe(*strict, "--waive", "net=ticket 4711", "--output", "json")
    (component,) = json.loads(told.stdout)["result"]["components"]
    assert component["parity"]["verdict"] == "VERDICT_FAIL"
    assert component["parity"]["waiver"] == "ticket 4711"
    unknown = desk.suite.lathe(*strict, "--waive", "head=ticket 4711", check=False)
    assert unknown.returncode == 2
    assert "head" in unknown.stderr


def test_cancel_retry_and_delete(desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "sleeper.py").write_text(network_source("Sleeper", "    import time\n    time.sleep(600)"))
    desk.suite.lathe("architectures", "create", str(tmp_path / "sleeper.py"))
    pushed = desk.suite.json("models", "push", "sleeper", str(desk.weights[0]), "--create", "--architecture", "sleeper")
    first = desk.suite.json("convert", pushed["name"], "-t", "tiny", "--no-wait", "--label", "team=night")["name"]
    wait_for(lambda: desk.suite.json("tasks", "get", first)["status"].get("stage") == "TASK_STAGE_EXECUTING")
    running = desk.suite.json("tasks", "list", "--state", "running", "--label", "team=night")
    assert [each["name"] for each in running] == [first]
    refused = desk.suite.lathe("tasks", "delete", first, check=False)
    assert refused.returncode == 7, refused.stderr
    assert desk.suite.lathe("models", "delete", pushed["name"], check=False).returncode == 7
    assert desk.suite.json("tasks", "cancel", first)["status"]["state"] in (
        "TASK_STATE_CANCELLING",
        "TASK_STATE_CANCELLED",
    )
    assert desk.suite.lathe("tasks", "watch", first, check=False).returncode == 6
    assert desk.suite.json("tasks", "cancel", first)["status"]["state"] == "TASK_STATE_CANCELLED"
    again = desk.suite.json("tasks", "retry", first)
    assert again["origin"]["retry_of"] == first
    desk.suite.lathe("tasks", "cancel", again["name"])
    changes = list(documents(desk.suite.lathe("tasks", "watch", again["name"], "-o", "json", check=False).stdout))
    assert changes[-1]["status"]["state"] == "TASK_STATE_CANCELLED"
    desk.suite.lathe("tasks", "delete", first, again["name"])
    assert desk.suite.lathe("tasks", "get", first, check=False).returncode == 3
    # Ended tasks let go of what they read in the background.
    wait_for(lambda: desk.suite.lathe("models", "delete", pushed["name"], check=False).returncode == 0)
    wait_for(desk.clean)


def test_ctrl_c_while_waiting_leaves_the_task_alone(desk: Desk) -> None:
    import subprocess

    from tests.e2e.conftest import COMMAND

    version = desk.push("patient", desk.weights[0], desk.register("Patient", "    pass").rpartition("/")[2])
    command = [*COMMAND, "convert", version, "-t", "tiny"]
    with desk.paused():  # so that the task does not end first
        waiting = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=desk.suite.environment())
        assert waiting.stderr
        name = waiting.stderr.readline().partition(":")[0]
        os.kill(waiting.pid, signal.SIGINT)
        said = waiting.communicate(timeout=120)[1]
    assert waiting.returncode == 130, said
    assert "Traceback" not in said
    assert desk.suite.lathe("tasks", "watch", name).returncode == 0
    assert desk.suite.lathe("tasks", "cancel", name, check=False).returncode == 7
    assert desk.suite.lathe("tasks", "retry", name, check=False).returncode == 7
    assert name in {each["name"] for each in desk.suite.json("tasks", "list")}
    assert desk.suite.lathe("tasks", "list").stdout.strip()
    assert desk.suite.json("tasks", "get", name)["name"] == name
    assert "parity" in desk.suite.lathe("tasks", "logs", name).stdout


def test_help_names_every_command(stack: Suite) -> None:
    told = stack.lathe("--help").stdout
    assert "Usage" in told
    assert all(f" {name} " in told for name in ("up", "convert", "models", "tasks", "demo", "releases"))
