"""Services are ended by SIGTERM and started again, and clients call them all the time: what are they told?

They may be told UNAVAILABLE, after which a client calls again, and nothing else. Of two replicas one is ended when the
other one serves, as in a rolling upgrade.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from lathe.registry.v1 import model_service_pb2 as model
from lathe.template.v1 import template_service_pb2 as template
from lathe.watch.v1.watch_service_pb2 import WatchTasksRequest
from lathe_client.connection import Connection
from lathe_client.tasks import KINDS
from rich.table import Table

from services.local.health import service_health
from services.local.ports import free_port
from services.local.process import ChildProcess
from services.local.roster import SERVICES
from tests.chaos.installation import ROOT, Installation, paths

UNARY_SECONDS, PAUSE_SECONDS = 60.0, 0.1


@dataclass
class Codes:
    """What clients were told.

    Attributes:
        unary: Service → code → calls.
        streams: Service → code → streams that ended so.
        sentences: What was said beside codes that are not to be.
    """

    unary: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    streams: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    sentences: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, table: defaultdict[str, Counter[str]], service: str, error: grpc.RpcError | None) -> None:
        """Count the end of a call."""
        code = error.code().name if error else "OK"
        with self._lock:
            table[service][code] += 1
            if error and code not in ("OK", "UNAVAILABLE"):
                self.sentences[f"{service}: {code}: {error.details()}"] += 1


class Clients:
    """Clients of every service, each with a connection of its own.

    Args:
        targets: Service → address, or several of replicas.
    """

    def __init__(self, targets: dict[str, str]) -> None:
        self._targets = targets
        self._stop = threading.Event()
        self.codes = Codes()

    @contextmanager
    def calling(self) -> Iterator[None]:
        """Call and watch within the block."""
        threads = [threading.Thread(target=self._call, args=(name,)) for name in self._targets for _ in range(2)]
        threads += [threading.Thread(target=self._watch, args=(name,)) for name in self._targets]
        for each in threads:
            each.start()
        try:
            yield
        finally:
            self._stop.set()
            for each in threads:
                each.join()

    def _call(self, service: str) -> None:
        with Connection(self._targets, user="client") as connection:
            call = _unary(connection, service)
            while not self._stop.wait(PAUSE_SECONDS):
                try:
                    call()
                except grpc.RpcError as error:
                    self.codes.note(self.codes.unary, service, error)
                else:
                    self.codes.note(self.codes.unary, service, None)

    def _watch(self, service: str) -> None:
        """Hold a stream open: a new one begins when it breaks."""
        with Connection(self._targets, user="client") as connection:
            while not self._stop.is_set():
                try:
                    for _ in _stream(connection, service):
                        if self._stop.is_set():
                            break
                except grpc.RpcError as error:
                    # The deadline is our own, so that this thread ends.
                    own = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                    self.codes.note(self.codes.streams, service, None if own else error)
                    self._stop.wait(PAUSE_SECONDS)


def _unary(connection: Connection, service: str) -> Callable[[], Any]:
    if service == "registry":
        listing = model.ListModelsRequest(page_size=5)
        return lambda: connection.models.ListModels(listing, timeout=UNARY_SECONDS)
    if service == "template":
        request = template.ListTemplatesRequest(page_size=5)
        return lambda: connection.templates.ListTemplates(request, timeout=UNARY_SECONDS)
    kind = next(each for each in KINDS.values() if each.service == service)
    method, asked = kind.method(connection, "List"), kind.request("List", page_size=5)
    return lambda: method(asked, timeout=UNARY_SECONDS)


def _stream(connection: Connection, service: str) -> Any:
    if service == "registry":
        return connection.watches.WatchTasks(WatchTasksRequest(), timeout=3)
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    stub = health_pb2_grpc.HealthStub(connection.channel(service))
    return stub.Watch(health_pb2.HealthCheckRequest(), timeout=3)


class Replicas:
    """A second replica of each of some services, beside those of the stack.

    Args:
        installation: Whose stack it is.
        names: The services.
        apart: Whether these replicas ask each other, and not the services of the stack.
    """

    def __init__(self, installation: Installation, names: Collection[str], *, apart: bool = False) -> None:
        self._installation = installation
        self._apart = apart
        self._ports = {name: free_port() for name in names}
        self._processes: dict[str, ChildProcess] = {}

    def targets(self) -> dict[str, str]:
        """Return both addresses of each service, as gRPC takes them."""
        first = self._installation.addresses()
        return {name: f"ipv4:{where},{first[name]}" for name, where in self.addresses().items()}

    def addresses(self) -> dict[str, str]:
        """Return the address of the second replica of each service."""
        return {name: f"127.0.0.1:{port}" for name, port in self._ports.items()}

    def start(self, name: str) -> None:
        """Start the replica of a service, and wait until it serves."""
        stack, entry = self._installation.stack, next(each for each in SERVICES if each.name == name)
        environment = stack.environment(name) | {
            "LATHE_PORT": str(self._ports[name]),
            "LATHE_SHUTDOWN_PAUSE_SECONDS": "1",
            "PYTHONPATH": os.pathsep.join(paths(ROOT)),
        }
        if self._apart:
            environment |= {f"LATHE_{name.upper()}_ADDRESS": where for name, where in self.addresses().items()}
        log = self._installation.folder / "logs" / f"{name}-2.log"
        command = [sys.executable, "-P", "-m", entry.module]
        self._processes[name] = ChildProcess(f"{name}-2", command, log, Path.cwd(), environment)
        self._processes[name].start()
        self._processes[name].wait_until(lambda: serves(f"127.0.0.1:{self._ports[name]}"), timeout=240)

    def stop(self) -> None:
        """End all."""
        for process in self._processes.values():
            process.stop(15)

    def end(self, name: str) -> None:
        """End one by SIGTERM, and wait until it has ended."""
        self._processes[name].stop(30)


def serves(address: str) -> bool:
    """Return whether a service says that it serves."""
    return service_health(address, timeout=2) == "healthy"


def restart(installation: Installation, name: str) -> None:
    """End a service of the stack by SIGTERM, and wait until its next process serves."""
    pid = installation.pids()[name]
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 240
    while installation.pids()[name] == pid or not serves(installation.addresses()[name]):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} does not serve again")
        time.sleep(0.1)


def alone(installation: Installation, rounds: int) -> Codes:
    """Restart each service on its own."""
    clients = Clients(installation.addresses())
    with clients.calling():
        for _ in range(rounds):
            for entry in SERVICES:
                restart(installation, entry.name)
    return clients.codes


def rolling(installation: Installation, rounds: int, names: Collection[str]) -> Codes:
    """Restart both replicas of each of these services, one after the other."""
    replicas = Replicas(installation, names)
    clients = Clients(replicas.targets())
    try:
        for name in names:
            replicas.start(name)
        with clients.calling():
            for _ in range(rounds):
                for name in names:
                    replicas.end(name)
                    replicas.start(name)
                    restart(installation, name)
    finally:
        replicas.stop()
    return clients.codes


def table(title: str, codes: Codes) -> Table:
    """Return the codes per service."""
    names = sorted({code for each in (*codes.unary.values(), *codes.streams.values()) for code in each})
    found = Table("service", "calls", *names, title=title)
    for what, counts in (("unary", codes.unary), ("streams", codes.streams)):
        for service, count in counts.items():
            found.add_row(service, what, *(str(count[name]) for name in names))
    return found
