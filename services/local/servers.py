"""PostgreSQL, NATS and S3 of a stack: embedded, or existing servers named by the environment."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from services.local.endpoints import Endpoint
from services.local.errors import LocalError
from services.local.health import port_answers
from services.local.nats import NatsServer
from services.local.postgres import PostgresServer
from services.local.roster import NATS_PORT, POSTGRES_PORT, S3_PORT
from services.local.s3 import S3Server
from services.local.server import LocalServer

_DEFAULT_PORTS = {"postgresql": 5432, "postgres": 5432, "nats": 4222, "tls": 4222, "http": 80, "https": 443}


OWNER = "owner"


@dataclass(frozen=True)
class Role:
    """Who a process is to the servers of a stack: everything of an OWNER, a role there, or nobody if empty."""

    database: str = OWNER
    bus: str = OWNER
    storage: str = OWNER


class Servers:
    """The three servers of a stack.

    Args:
        data_dir: Data directory of the stack.
        environment: If LATHE_DATABASE_URL, LATHE_NATS_URL or LATHE_S3_ENDPOINT name a server, none is started.
        durable: False gives up safety against power loss for speed, for tests.
    """

    def __init__(self, data_dir: Path, environment: Mapping[str, str], *, durable: bool = True) -> None:
        logs = data_dir / "logs"
        self._given = {
            name: environment[variable] for name, variable in _VARIABLES.items() if environment.get(variable)
        }
        self.postgres = PostgresServer(
            data_dir / "postgres", POSTGRES_PORT, durable=durable, log_path=logs / "postgres.log"
        )
        self.nats = NatsServer(data_dir / "nats", NATS_PORT, durable=durable, log_path=logs / "nats.log")
        self.s3 = S3Server(data_dir / "s3", S3_PORT, log_path=logs / "s3.log")
        everything: dict[str, LocalServer] = {"postgres": self.postgres, "nats": self.nats, "s3": self.s3}
        self.own = {name: server for name, server in everything.items() if name not in self._given}

    def start(self, started: Callable[[str], None]) -> None:
        """Start the servers in parallel and wait for all; `started` is called with each name.

        Raises:
            LocalError: One does not start, or one that the environment names does not answer.
        """
        for name, url in self._given.items():
            if not any(port_answers(address) for address in addresses_in(url)):
                raise LocalError(f"{_VARIABLES[name]} names {', '.join(addresses_in(url))}, but nothing answers there.")
        with ThreadPoolExecutor(max_workers=3) as pool:
            runs = {pool.submit(server.start): name for name, server in self.own.items()}
            for run in as_completed(runs):
                run.result()
                started(runs[run])

    def stop(self, hurry: threading.Event | None = None) -> None:
        """Stop all servers in parallel; setting `hurry` shortens the wait."""
        with ThreadPoolExecutor(max_workers=3) as pool:
            for run in [pool.submit(server.stop, hurry) for server in self.own.values()]:
                run.result()

    def settings(self, role: Role | None = None) -> dict[str, str]:
        """Return the environment variables for the embedded servers, with the secrets of a role, or the owner's."""
        role = role or Role()
        values: dict[str, str] = {}
        if "postgres" in self.own and role.database:
            own = role.database == OWNER
            values["LATHE_DATABASE_URL"] = self.postgres.url if own else self.postgres.url_of(role.database)
        if "nats" in self.own and role.bus:
            values["LATHE_NATS_URL"] = self.nats.url if role.bus == OWNER else self.nats.url_of(role.bus)
        if "s3" in self.own and role.storage:
            owner = self.s3.access_key, self.s3.secret_key
            access_key, secret_key = owner if role.storage == OWNER else self.s3.keys(role.storage)
            values |= {
                "LATHE_S3_ENDPOINT": self.s3.endpoint,
                "LATHE_S3_ACCESS_KEY": access_key,
                "LATHE_S3_SECRET_KEY": secret_key,
                "LATHE_S3_BUCKET": self.s3.bucket,
                "LATHE_S3_REGION": self.s3.region,
            }
        return values

    def endpoints(self) -> list[Endpoint]:
        """Return the addresses of all servers, including existing ones."""
        parts = []
        for name in _VARIABLES:
            if name in self.own:
                process = self.own[name].process
                pid = process.pid if process else None
                parts.append(Endpoint(name, "server", f"127.0.0.1:{self.own[name].port}", pid or 0))
            else:
                parts.append(Endpoint(name, "server", addresses_in(self._given[name])[0], 0))
        return parts


_VARIABLES = {"postgres": "LATHE_DATABASE_URL", "nats": "LATHE_NATS_URL", "s3": "LATHE_S3_ENDPOINT"}


def addresses_in(url: str) -> list[str]:
    """Return the host:port pairs of a URL, or of several separated by commas, without credentials."""
    scheme = urlsplit(url).scheme
    authorities = [part.split("://")[-1].split("/")[0].rpartition("@")[2] for part in url.split(",")]
    port = _DEFAULT_PORTS.get(scheme, 80)
    return [host if _has_port(host) else f"{host}:{port}" for host in authorities if host]


def _has_port(host: str) -> bool:
    return host.rpartition(":")[2].isdigit() and not host.endswith("]")
