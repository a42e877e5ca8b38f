"""One running suite for all end-to-end tests, started by `lathe up` as a person would start it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from lathe_client.connection import Connection

from tests.children import alive
from tests.e2e import beasts as pictures
from tests.e2e.beasts import Beasts
from tests.e2e.desk import Desk
from tests.e2e.spans import Receiver, receiving
from tests.e2e.tiny import network_source, save_weights, template_text
from tests.unit.package.test_provenance import pair

STOP_SECONDS = 180
# So long it may take until what has ended is seen to have; less than services and workers are given to end.
KILLED_SECONDS = 5


@dataclass(frozen=True)
class Suite:
    """A suite that `lathe up` runs.

    Attributes:
        data_dir: Its state.
        process: `lathe up` itself.
        parts: What `lathe up --output json` printed: name → role, address, pid.
    """

    data_dir: Path
    process: subprocess.Popen[str]
    parts: dict[str, dict[str, Any]]

    def address(self, service: str) -> str:
        """Return host:port of a service."""
        address: str = self.parts[service]["address"]
        return address

    def environment(self) -> dict[str, str]:
        """Return variables with which any program finds this suite."""
        return clean_environment() | {"LATHE_DATA_DIR": str(self.data_dir)}

    def lathe(self, *arguments: str, check: bool = True, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run `lathe` against this suite; with `check`, a failure is an error that shows what it printed."""
        result = subprocess.run(
            [*COMMAND, *arguments], capture_output=True, text=True, env=self.environment(), timeout=timeout, check=False
        )
        if check:
            assert result.returncode == 0, f"lathe {' '.join(arguments)}: {result.stdout}\n{result.stderr}"
        return result

    def json(self, *arguments: str) -> Any:
        """Run `lathe … --output json` and return what it printed."""
        return json.loads(self.lathe(*arguments, "--output", "json").stdout)

    def family(self) -> list[psutil.Process]:
        """Return every process below `lathe up`, and itself."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> list[psutil.Process]:
        """End the suite and return the processes that it left behind."""
        family = self.family() if self.process.poll() is None else []
        self.process.send_signal(number)
        self.process.wait(STOP_SECONDS)
        return left_of(family)


COMMAND = [sys.executable, "-m", "services.cli.main"]


def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("LATHE_")}


def left_of(family: list[psutil.Process]) -> list[psutil.Process]:
    """Return what is still alive of processes that should have ended."""
    deadline = time.monotonic() + KILLED_SECONDS
    while (left := [process for process in family if alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def start_suite(data_dir: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Suite:
    command = [*COMMAND, "up", "--data-dir", str(data_dir), "--output", "json", *flags]
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "up.txt").open("a") as notes:
        variables = clean_environment() | dict(environment or {})
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=notes, text=True, env=variables)
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        process.wait(STOP_SECONDS)
        pytest.fail(f"lathe up ended with status {process.returncode}:\n{(data_dir / 'up.txt').read_text()}")
    return Suite(data_dir, process, json.loads(line))


@pytest.fixture(scope="session")
def received() -> Iterator[Receiver]:
    """The spans that the shared suite exports; some seconds pass before they come."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, received: Receiver) -> Iterator[Suite]:
    """A whole suite, shared by the session's tests: leave it as healthy as you found it."""
    data_dir = tmp_path_factory.mktemp("suite")
    key, _ = pair(data_dir)
    environment = {"LATHE_OTLP_ENDPOINT": received.url, "LATHE_SIGNING_KEY_FILE": str(key)}
    suite = start_suite(data_dir, environment=environment)
    yield suite
    assert suite.stop() == []
    assert suite.process.returncode == 0
    # Every role has the rights in the stores that its work needs.
    logs = {path.name: path.read_text(errors="replace") for path in (suite.data_dir / "logs").glob("*.log")}
    refusals = ("bus.refused", "AccessDenied", "InsufficientPrivilege", "permission denied for")
    assert not [(name, each) for name, text in logs.items() for each in refusals if each in text]


@pytest.fixture(scope="session")
def desk(stack: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The shared suite with the tiny network, its template and both its checkpoints, all put there by the CLI."""
    folder = tmp_path_factory.mktemp("tiny")
    source, template = folder / "tiny_net.py", folder / "template.yaml"
    source.write_text(network_source("TinyNet"))
    template.write_text(template_text("Tiny"))
    weights = save_weights(folder)
    stack.lathe("architectures", "create", str(source))
    stack.lathe("templates", "create", str(template), "--id", "tiny")
    names = []
    for file in weights:
        pushed = stack.json("models", "push", "tiny", str(file), "--create", "--architecture", "tinynet")
        names.append(pushed["name"])
    addresses = {name: part["address"] for name, part in stack.parts.items() if part.get("address")}
    with Connection(addresses, user="tester") as connection:
        yield Desk(stack, connection, weights, *names)


@pytest.fixture(scope="session")
def beasts(desk: Desk, tmp_path_factory: pytest.TempPathFactory) -> Beasts:
    """A classifier that is right, as source and as package, and annotated pictures; put there by the CLI."""
    suite, folder = desk.suite, tmp_path_factory.mktemp("beasts")
    weights, data = pictures.save_classifier(folder / "beasts.pth"), folder / "scenes.zip"
    data.write_bytes(pictures.scenes())
    source = suite.json("models", "push", "beasts", str(weights), "--create", "--architecture", "tinynet")["name"]
    converted = suite.json("convert", source, "-t", "tiny")
    made = suite.json("datasets", "create", "Scenes", str(data), "--template", "tiny", "--map", "animal=animal")
    assert (made["state"], made["item_count"]) == ("DATASET_STATE_READY", str(pictures.COUNT))
    return Beasts(desk, source, converted["result"]["model_version"], converted["name"], made["name"])
