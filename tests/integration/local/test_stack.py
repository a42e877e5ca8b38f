"""The stack over tiny services: starts, watches, restarts, stops, and never leaves a process behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from services.local.endpoints import read_endpoints
from services.local.errors import LocalError
from services.local.health import port_answers, service_health
from services.local.nats import NatsServer
from services.local.roster import ServiceEntry, WorkerEntry
from services.local.stack import Stack, Stopped
from tests.children import alive, named
from tests.eventually import wait_for

ROOT = Path(__file__).parents[3]
SERVICES = (
    ServiceEntry("registry", "tests.integration.local.fake_service", 50051, changes=("dataset",), storage="registry"),
    ServiceEntry("template", "tests.integration.local.fake_service", 50051),
)
WORKERS = (WorkerEntry("worker-cpu", "tests.integration.local.fake_worker", "fake"),)


def make_stack(data_dir: Path, said: list[str] | None = None, **environment: str) -> Stack:
    return Stack(
        data_dir,
        durable=False,
        environment={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        services=SERVICES,
        workers=WORKERS,
        say=(said if said is not None else []).append,
    )


def family() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


def strangers(before: set[psutil.Process]) -> set[psutil.Process]:
    """Return what was started since and is still there; a server of the session may start a child at any time."""
    return {process for process in family() - before if not descends(process, before)}


def descends(process: psutil.Process, before: set[psutil.Process]) -> bool:
    try:
        return bool(before & set(process.parents()))
    except psutil.NoSuchProcess:
        return True  # gone: nothing that was left behind


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> Iterator[Stack]:
    stack = make_stack(tmp_path_factory.mktemp("stack"), said, LATHE_AUTH_TOKENS_FILE="tokens.json")
    stack.start()
    watcher = threading.Thread(target=stack.run)
    watcher.start()
    yield stack
    stack.request_stop()
    stack.request_stop()
    watcher.join()
    stack.stop()


def test_all_is_healthy_and_written_down(stack: Stack, said: list[str]) -> None:
    endpoints = read_endpoints(stack.data_dir)
    assert endpoints
    assert endpoints.supervisor_pid == os.getpid()
    assert [part.name for part in endpoints.parts] == ["postgres", "nats", "s3", "registry", "template", "worker-cpu"]
    assert len({part.address for part in endpoints.parts}) == 6
    # A health check of a busy machine may run out of its time.
    wait_for(lambda: all(service_health(address) == "healthy" for address in endpoints.addresses().values()))
    assert all(port_answers(part.address) for part in endpoints.parts if part.role == "server")
    assert {"registry is healthy", "template is healthy", "worker-cpu is healthy"} <= set(said)
    secrets = stack.environment()["LATHE_S3_SECRET_KEY"], stack.servers.postgres.url
    text = (stack.data_dir / "endpoints.json").read_text()
    assert not any(secret in text for secret in secrets)


def test_services_that_ask_for_tokens_share_one_of_their_own(stack: Stack) -> None:
    tokens = {
        name: stack.environment(name).get("LATHE_SERVICE_TOKEN") for name in ("", "registry", "template", "worker-cpu")
    }
    assert tokens["registry"] == tokens["template"] == (stack.data_dir / "service-token").read_text()
    assert len(tokens["registry"] or "") == 48
    assert tokens[""] == tokens["worker-cpu"] == os.environ.get("LATHE_SERVICE_TOKEN")


def test_a_second_stack_on_the_same_folder_is_refused(stack: Stack) -> None:
    with pytest.raises(LocalError, match=rf"already runs on .* \(process {os.getpid()}\)"):
        make_stack(stack.data_dir).start()
    wait_for(lambda: service_health(stack.address("registry")) == "healthy")


def test_a_killed_service_comes_back_at_its_address(stack: Stack, said: list[str]) -> None:
    address, pid = stack.address("template"), stack.processes["template"].pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: stack.processes["template"].pid != pid and service_health(address) == "healthy")
    wait_for(lambda: any(part.pid == stack.processes["template"].pid for part in stack.endpoints()))
    assert any(sentence.startswith("template ended with status -9; restarting it in 0.5 s") for sentence in said)


def test_a_killed_database_comes_back_at_its_address(stack: Stack) -> None:
    server = stack.servers.postgres
    port, pid = server.port, server.process and server.process.pid
    assert pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: bool(server.process and server.process.pid not in (pid, None) and server.answers()))
    assert server.port == port


def test_stop_leaves_nothing_and_the_next_start_finds_the_state(tmp_path: Path) -> None:
    before = family()
    first = make_stack(tmp_path)
    first.start()
    password = first.servers.postgres.url.rpartition("@")[0]
    started = strangers(before)
    assert len(started) > 8
    first.stop()
    assert not [process for process in started if alive(process)]
    assert not read_endpoints(tmp_path)
    second = make_stack(tmp_path)
    second.start()
    second.request_stop()
    second.request_stop()
    second.stop()
    assert second.servers.postgres.url.rpartition("@")[0] == password
    assert not strangers(before)


def test_a_service_that_does_not_start_is_reported_and_the_rest_ends(tmp_path: Path) -> None:
    before = family()
    stack = Stack(tmp_path, durable=False, services=[ServiceEntry("registry", "no.such.module", 50051)], workers=())
    with pytest.raises(LocalError, match=r"(?s)registry ended with status 1.*No module named"):
        stack.start()
    assert not strangers(before)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("moment", ["postgres answers", "s3 answers", "registry is healthy"])
def test_a_stop_while_starting_leaves_nothing(tmp_path: Path, moment: str, times: int) -> None:
    before = family()

    class Said(list[str]):
        def append(self, sentence: str) -> None:
            if sentence.startswith(moment):
                for _ in range(times):
                    starting.request_stop()

    starting = make_stack(tmp_path, Said())
    with pytest.raises(Stopped):
        starting.start()
    assert not strangers(before)


def test_an_existing_server_is_used(tmp_path: Path) -> None:
    existing = NatsServer(tmp_path / "existing", durable=False)
    existing.start()
    try:
        stack = make_stack(tmp_path / "stack", LATHE_NATS_URL=existing.url)
        stack.start()
        try:
            nats = next(part for part in stack.endpoints() if part.name == "nats")
            assert (nats.address, nats.pid) == (f"127.0.0.1:{existing.port}", 0)
            assert stack.environment("registry")["LATHE_NATS_URL"] == existing.url
        finally:
            stack.request_stop()
            stack.request_stop()
            stack.stop()
        assert existing.answers()
    finally:
        existing.stop()


def test_a_server_that_is_named_but_absent_is_reported(tmp_path: Path) -> None:
    stack = make_stack(tmp_path, LATHE_DATABASE_URL="postgresql://me:secret@127.0.0.1:1/lathe")
    with pytest.raises(LocalError, match=r"^LATHE_DATABASE_URL names 127\.0\.0\.1:1, but nothing answers there\.$"):
        stack.start()


def test_everything_ends_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    program = f"""
        import json, psutil
        from pathlib import Path
        from tests.integration.local.test_stack import make_stack
        stack = make_stack(Path({str(tmp_path)!r}))
        stack.start()
        print(json.dumps([p.pid for p in psutil.Process().children(recursive=True)]), flush=True)
        stack.run()
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", textwrap.dedent(program)]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout
    children = named(json.loads(parent.stdout.readline()))
    own = [child for child, name in children.items() if name != "sleep"]
    assert len(own) > 5
    parent.kill()
    parent.wait()
    _, left = psutil.wait_procs(own, timeout=120)
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()
    assert not left
    again = make_stack(tmp_path)
    again.start()
    again.request_stop()
    again.request_stop()
    again.stop()
