"""The whole suite on one machine: servers, API processes and workers, supervised until they are stopped."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.local.endpoints import Endpoint, remove_endpoints, write_endpoints
from services.local.errors import LocalError
from services.local.health import port_answers, service_health
from services.local.lock import DataDirLock
from services.local.metrics import write_targets
from services.local.ports import free_port
from services.local.process import ChildProcess
from services.local.readiness import await_ready, newest_announcements
from services.local.restart import Backoff
from services.local.roster import SERVICES, WORKERS, ServiceEntry, WorkerEntry
from services.local.secret import stored_secret
from services.local.servers import Servers
from services.local.users import bus_users, roles_of
from services.platform.settings import Settings

# Settings of a single process: if inherited, all would use the same port. Each gets ports of its own.
_NOT_INHERITED = (
    "LATHE_PORT",
    "LATHE_INTERNAL_PORT",
    "LATHE_PROBE_PORT",
    "LATHE_METRICS_PORT",
    "LATHE_IDLE_EXIT_SECONDS",
)
# If one is set, the services need a token of their own, with which they call each other.
_ASK_FOR_TOKENS = ("LATHE_AUTH_TOKENS_FILE", "LATHE_AUTH_ISSUER")
_HEALTHY_SECONDS = 180.0  # five workers import their frameworks on what processors there are
_WORKER_GRACE_SECONDS = 15.0
_SERVICE_GRACE_SECONDS = 15.0
_TICK_SECONDS = 0.2


class Stopped(Exception):  # noqa: N818 - not an error
    """The stack was stopped while it started."""


class Stack:
    """Starts, watches and stops the suite over one data directory.

    Args:
        data_dir: Folder for all state, created by the first start.
        with_worker: False starts no worker.
        durable: False gives up safety against power loss for speed, for tests.
        environment: Variables of the processes; those of this process by default.
        services: API processes.
        workers: Worker processes.
        say: Called with a sentence for each event.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        with_worker: bool = True,
        durable: bool = True,
        environment: Mapping[str, str] | None = None,
        services: Sequence[ServiceEntry] = SERVICES,
        workers: Sequence[WorkerEntry] = WORKERS,
        say: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self._inherited = dict(os.environ if environment is None else environment)
        self._services = {entry.name: entry for entry in services}
        self._workers = {entry.name: entry for entry in workers} if with_worker else {}
        self._say = say
        self._lock = DataDirLock(self.data_dir)
        self.servers = Servers(self.data_dir, self._inherited, durable=durable)
        self._roles = roles_of(services, self._workers.values())
        device = self._inherited.get("LATHE_DEVICE") or Settings.model_fields["device"].default
        self.servers.nats.users = bus_users(services, self._workers.values(), device)
        self._ports: dict[str, int] = {}
        self.processes: dict[str, ChildProcess] = {}
        self._backoff: dict[str, Backoff] = {}
        # The newest announcement before each worker's start, to ignore those of earlier workers.
        self._announced: dict[str, int] = {}
        self._stop = threading.Event()
        self._hurry = threading.Event()

    def request_stop(self) -> None:
        """Request the end, from any thread; a second request ends all waiting."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def start(self) -> None:
        """Start everything and wait until it is healthy.

        Raises:
            LocalError: A part does not start; the started ones are stopped again.
            Stopped: `request_stop` was called meanwhile; the started parts are stopped again.
        """
        self._lock.acquire()
        try:
            for name, entry in self._services.items():
                self._ports[name] = free_port(entry.port, avoid=self._ports.values())
            self.servers.start(self._started)
            self._check_stop()
            if "postgres" in self.servers.own:
                self.servers.postgres.make_roles(self._services)
            self._announced = newest_announcements(self.nats_url, self._workers.values())
            write_targets(self.data_dir, self._metrics_ports(), set(self._services))
            self._start_services()
            self._start_workers()
        except BaseException:
            self.stop()
            raise

    def run(self) -> None:
        """Watch until `request_stop`: restart processes that end by themselves, and rotate logs."""
        while not self._stop.wait(_TICK_SECONDS):
            self.watch_once()

    def watch_once(self) -> None:
        """Check each process once."""
        for name, process in self._watched().items():
            if process is not None and process.running:
                process.rotate_log()
                continue
            backoff = self._backoff.setdefault(name, Backoff())
            if backoff.pending is None:
                delay = backoff.schedule()
                status = f"ended with status {process.exit_status}" if process else "did not start"
                log = self.data_dir / "logs" / f"{name}.log"
                self._say(f"{name} {status}; restarting it in {delay:.1f} s (its log: {log})")
            elif backoff.due():
                backoff.started()
                self._restart(name)

    def stop(self) -> None:
        """Stop everything, workers first and servers last, without leaving processes behind."""
        self._stop.set()
        self._end([name for name in self._workers if name in self.processes], _WORKER_GRACE_SECONDS)
        self._end([name for name in self._services if name in self.processes], _SERVICE_GRACE_SECONDS)
        self.servers.stop(self._hurry)
        remove_endpoints(self.data_dir)
        self._lock.release()

    def environment(self, name: str = "") -> dict[str, str]:
        """Return the environment variables of a process; without a name, those for clients of this stack."""
        values = {key: value for key, value in self._inherited.items() if key not in _NOT_INHERITED}
        values |= self.servers.settings(self._roles.get(name))
        values |= {self._services[service].address_variable: self.address(service) for service in self._services}
        values |= {"LATHE_DATA_DIR": str(self.data_dir)}
        if name in self._workers:
            values["LATHE_KINDS"] = self._workers[name].kind
            if self._workers[name].device:
                values["LATHE_DEVICE"] = self._workers[name].device
        if name in self._services:
            values |= {"LATHE_PORT": str(self._ports[name]), "LATHE_BIND_HOST": "127.0.0.1"}
            # There is no load balancer in front of it.
            values.setdefault("LATHE_SHUTDOWN_PAUSE_SECONDS", "0")
            if any(values.get(variable) for variable in _ASK_FOR_TOKENS) and not values.get("LATHE_SERVICE_TOKEN"):
                values["LATHE_SERVICE_TOKEN"] = stored_secret(self.data_dir / "service-token")
        if name and (port := self._metrics_ports().get(name)):
            values["LATHE_METRICS_PORT"] = str(port)
        return values

    def _metrics_ports(self) -> dict[str, int]:
        """Return where each process tells its metrics: consecutive ports from LATHE_METRICS_PORT on, if that is set."""
        first = int(self._inherited.get("LATHE_METRICS_PORT") or 0)
        return {name: first + index for index, name in enumerate([*self._services, *self._workers])} if first else {}

    def address(self, service: str) -> str:
        """Return host:port of an API process."""
        return f"127.0.0.1:{self._ports[service]}"

    @property
    def nats_url(self) -> str:
        """URL of the NATS server in use."""
        return self.environment()["LATHE_NATS_URL"]

    def endpoints(self) -> list[Endpoint]:
        """Return the addresses of all parts."""
        pids = {name: process.pid or 0 for name, process in self.processes.items()}
        services = [Endpoint(name, "service", self.address(name), pids.get(name, 0)) for name in self._services]
        workers = [Endpoint(name, "worker", "", pids.get(name, 0)) for name in self._workers]
        return [*self.servers.endpoints(), *services, *workers]

    def _watched(self) -> dict[str, ChildProcess | None]:
        return {**{name: server.process for name, server in self.servers.own.items()}, **self.processes}

    def _started(self, name: str) -> None:
        self._say(f"{name} answers on port {self.servers.own[name].port}")

    def _launch(self, name: str) -> None:
        module = (self._services.get(name) or self._workers[name]).module
        process = ChildProcess(
            name=name,
            # -P: do not import from the working directory.
            command=[sys.executable, "-P", "-m", module],
            log_path=self.data_dir / "logs" / f"{name}.log",
            # The caller's directory, so that relative paths in LATHE_* keep their meaning.
            cwd=Path.cwd(),
            environment=self.environment(name),
        )
        process.start()
        self.processes[name] = process

    def _restart(self, name: str) -> None:
        try:
            if name in self.servers.own:
                self._restart_server(name)
            else:
                self._launch(name)
            self._write_endpoints()
        except OSError as error:  # the disk is full, say: it is tried again, and all others are watched meanwhile
            self._say(f"{name} does not start: {error}")

    def _restart_server(self, name: str) -> None:
        server = self.servers.own[name]
        port = server.port
        try:
            server.start()
        except (LocalError, OSError) as error:
            server.port = port  # where the processes look for it; the next start may have to tell them of another
            self._say(f"{name} does not start: {error}")
            return
        if server.port != port:
            self._say(f"{name} moved to port {server.port}; all processes restart to find it")
            self._end(list(self.processes), grace=_SERVICE_GRACE_SECONDS)

    def _start_services(self) -> None:
        self._start(self._services, self._ready_services)

    def _start_workers(self) -> None:
        """Start the workers once the services answer, because importing their frameworks occupies the processors."""
        self._start(self._workers, self._ready_workers)

    def _start(self, names: Collection[str], ready: Callable[[Collection[str]], Collection[str]]) -> None:
        for name in names:
            self._launch(name)
        self._write_endpoints()
        await_ready(names, ready, self.processes, stopped=self._stop, say=self._say, timeout=_HEALTHY_SECONDS)
        self._check_stop()

    def _ready_services(self, names: Collection[str]) -> Collection[str]:
        addresses = {name: self.address(name) for name in names}
        # To be refused a connection costs little; a channel to nobody does not.
        listening = {name: where for name, where in addresses.items() if port_answers(where, timeout=1)}
        return [name for name, where in listening.items() if service_health(where, timeout=1) == "healthy"]

    def _ready_workers(self, names: Collection[str]) -> Collection[str]:
        newest = newest_announcements(self.nats_url, [self._workers[name] for name in names])
        return [name for name, number in newest.items() if number > self._announced[name]]

    def _check_stop(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _end(self, names: Sequence[str], grace: float) -> None:
        """Stop processes in parallel; another `request_stop` ends the wait."""
        if not names:
            return
        with ThreadPoolExecutor(max_workers=len(names)) as pool:
            for run in [pool.submit(self.processes[name].stop, grace, self._hurry) for name in names]:
                run.result()

    def _write_endpoints(self) -> None:
        write_endpoints(self.data_dir, os.getpid(), self.endpoints())
