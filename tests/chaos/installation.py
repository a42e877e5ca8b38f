"""A whole installation to break: the real services over PostgreSQL, a cluster of NATS and S3, with stand-in workers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import nats
import psutil
from nats.aio.client import Client

from services.local import restart
from services.local.ports import free_port
from services.local.process import ChildProcess
from services.local.roster import SERVICES, ServiceEntry, WorkerEntry
from services.local.server import installed_binary
from services.local.stack import Stack
from tests.chaos import clocks
from tests.chaos.cables import Cable

ROOT = Path(__file__).parents[2]
WORKERS = tuple(
    WorkerEntry(f"worker-{kind}-{number}", "tests.chaos.stand_in", kind)
    for kind, count in (("conversion", 2), ("quantization", 1), ("optimization", 1), ("evaluation", 1))
    for number in range(1, count + 1)
)
REAL = "worker-conversion-1"
"""The worker that can be a real one: its conversions run in sandboxed children."""
CLOCKS = {"LATHE_ACK_WAIT_SECONDS": "5", "LATHE_HEARTBEAT_SECONDS": "1", "LATHE_MAX_ATTEMPTS": "20"}
DISK_BYTES = 1 << 30
_CABLES = {"worker-conversion-2": "LATHE_NATS_URL", "converter": "LATHE_DATABASE_URL"}
"""Who is behind a cable, and to which server."""
T = TypeVar("T", ServiceEntry, WorkerEntry)
PASSWORD = "p0123456789"
RESTART_SECONDS = 2.0
"""The most that a killed part waits for its next start: it is killed too often to wait for half a minute."""


class Cluster:
    """NATS servers that have every message; each is started again soon after it ended."""

    def __init__(self, folder: Path, count: int) -> None:
        routes, self._ports = ([free_port() for _ in range(count)] for _ in range(2))
        self.servers: dict[str, ChildProcess] = {}
        for number, (route, port) in enumerate(zip(routes, self._ports, strict=True)):
            name, own = f"nats-{number}", folder / f"nats-{number}"
            own.mkdir(parents=True)
            (own / "nats.conf").write_text(_configuration(name, own, port, route, routes), encoding="utf-8")
            command = [str(installed_binary("nats-server", "LATHE_NATS_URL")), "--config", str(own / "nats.conf")]
            environment = {**os.environ, "GOMEMLIMIT": "256MiB"}
            self.servers[name] = ChildProcess(name, command, own / "log", own, environment)
            self.servers[name].start()
        asyncio.run(_led(self.url))
        self._end = threading.Event()
        self._watching = threading.Thread(target=self._watch)
        self._watching.start()

    @property
    def url(self) -> str:
        """Addresses of all servers."""
        return ",".join(f"nats://lathe:{PASSWORD}@127.0.0.1:{port}" for port in self._ports)

    def stop(self) -> None:
        """End all servers."""
        self._end.set()
        self._watching.join()
        for server in self.servers.values():
            server.stop(2)

    def _watch(self) -> None:
        while not self._end.wait(0.2):
            for server in self.servers.values():
                if not server.running and not self._end.wait(RESTART_SECONDS / 2):
                    server.start()


def paths(tree: Path) -> list[str]:
    """Return where Python looks for everything of a working tree before it looks for what is installed."""
    return [str(tree / each) for each in ("", "protos/gen", "protos/gen/internal", "protos/client")]


async def _led(url: str) -> None:
    """Return when the servers have found each other and chosen who leads."""
    async with asyncio.timeout(120):
        while True:
            with contextlib.suppress(Exception):  # nobody listens yet, or nobody leads
                connection = await nats.connect(
                    url.split(","), connect_timeout=5, allow_reconnect=False, error_cb=quietly
                )
                try:
                    return await _made_and_removed(connection, url.count(",") + 1)
                finally:
                    await connection.close()
            await asyncio.sleep(0.1)


async def quietly(_error: Exception) -> None:
    """Say nothing of a server that does not answer yet."""


async def _made_and_removed(connection: Client, copies: int) -> None:
    streams = connection.jetstream()
    await streams.add_stream(name="TRIAL", subjects=["trial"], num_replicas=copies)
    await streams.delete_stream("TRIAL")


def _configuration(name: str, folder: Path, port: int, route: int, routes: list[int]) -> str:
    others = ", ".join(f"nats-route://127.0.0.1:{each}" for each in routes if each != route)
    cluster = f'cluster {{ name: chaos, listen: "127.0.0.1:{route}", routes: [{others}], no_advertise: true }}'
    return "\n".join([
        f"server_name: {name}",
        f'listen: "127.0.0.1:{port}"',
        f'authorization {{ user: lathe, password: "{PASSWORD}" }}',
        f'jetstream {{ store_dir: "{folder}" }}',
        cluster if others else "",
        "max_payload: 4MB",
    ])  # fmt: skip


class Installation:
    """A running installation.

    Attributes:
        folder: Its state.
        stack: Supervises everything but NATS.
        cluster: Supervises NATS.
        cables: Service or worker → the cable by which it reaches one of its servers; empty if none can be cut.
        clock: The file that says by how much the clocks of services and workers are wrong; None if it cannot be.
    """

    def __init__(
        self, folder: Path, stack: Stack, cluster: Cluster, cables: Mapping[str, Cable], clock: Path | None
    ) -> None:
        self.folder = folder
        self.stack = stack
        self.cluster = cluster
        self.cables = cables
        self.clock = clock

    def pids(self) -> dict[str, int]:
        """Return the process of each part that was started, by its name."""
        found = {each.name: each.pid for each in self.stack.endpoints() if each.pid}
        return found | {name: server.pid for name, server in self.cluster.servers.items() if server.pid}

    def family(self) -> list[psutil.Process]:
        """Return every process that belongs to it, and those whose parents are gone, if this process adopts them."""
        return psutil.Process().children(recursive=True)

    def addresses(self) -> dict[str, str]:
        """Return host:port of each service."""
        return {entry.name: self.stack.address(entry.name) for entry in SERVICES}


@contextmanager
def running(
    folder: Path,
    *,
    servers: int = 3,
    cables: bool = False,
    small_disk: bool = False,
    wrong_clock: bool = False,
    real: bool = False,
    tree: Path = ROOT,
) -> Iterator[Installation]:
    """Run an installation and its supervision; leave no process behind.

    Args:
        folder: For its state; it must not exist, or be empty.
        servers: How many NATS servers there are.
        cables: Whether two processes are in network namespaces of their own.
        small_disk: Whether the files of S3 lie on a small disk, in memory.
        wrong_clock: Whether the clocks of services and workers can be set.
        real: Whether one of the workers is a real one.
        tree: The working tree whose services and workers run.
    """
    environment = {key: value for key, value in os.environ.items() if not key.startswith("LATHE_")}
    environment |= CLOCKS | {"PYTHONPATH": os.pathsep.join([*paths(tree), str(folder / "modules")])}
    environment["TMPDIR"] = str(folder / "tmp")
    (folder / "tmp").mkdir(parents=True)
    # A server may run as another account.
    (folder / "tmp").chmod(0o1777)
    before, restart._LONGEST_SECONDS = restart._LONGEST_SECONDS, RESTART_SECONDS
    with ExitStack() as undone:
        undone.callback(setattr, restart, "_LONGEST_SECONDS", before)
        cluster = Cluster(folder / "cluster", servers)
        undone.callback(cluster.stop)
        environment["LATHE_NATS_URL"] = cluster.url
        if servers > 1:
            environment["LATHE_NATS_REPLICAS"] = str(servers)
        if small_disk:
            _mount(folder / "s3")
            undone.callback(_unmount, folder / "s3")
        clock = folder / "clock" if wrong_clock else None
        if clock:
            environment |= clocks.environment(clock)
        laid = (
            {name: Cable(number, variable) for number, (name, variable) in enumerate(_CABLES.items())} if cables else {}
        )
        for each in laid.values():
            undone.callback(each.close)

        def behind(entry: T) -> T:
            """Return an entry whose module runs behind its cable, if there is one."""
            module = "services.worker" if real and entry.name == REAL else entry.module
            if entry.name in laid:
                module = laid[entry.name].module(folder / "modules", module)
            return replace(entry, module=module)

        stack = Stack(
            folder,
            services=[behind(entry) for entry in SERVICES],
            workers=[behind(entry) for entry in WORKERS],
            environment=environment,
            say=lambda _: None,
        )
        if tree != ROOT:
            # A release before may know nothing of roles at the servers.
            stack._roles = {}
        stack.start()
        undone.callback(stack.stop)
        watching = threading.Thread(target=stack.run)
        watching.start()
        undone.callback(watching.join)
        undone.callback(stack.request_stop)
        yield Installation(folder, stack, cluster, laid, clock)


def _mount(folder: Path) -> None:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=700", "disk", folder], check=True)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", folder], check=True)


def healthy(installation: Installation, patience: float) -> None:
    """Wait until every service says that it serves.

    Raises:
        TimeoutError: One does not, after so many seconds.
    """
    from services.local.health import service_health

    deadline = time.monotonic() + patience
    left = installation.addresses()
    while left := {name: where for name, where in left.items() if service_health(where, timeout=2) != "healthy"}:
        if time.monotonic() > deadline:
            raise TimeoutError(f"these do not serve again: {', '.join(left)}")
        time.sleep(0.2)
