"""An embedded NATS server with JetStream, on 127.0.0.1, that has every acknowledged message on disk."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from services.local.binaries import installed_binary
from services.local.errors import LocalError
from services.local.ports import free_port
from services.local.process import ChildProcess
from services.local.secret import stored_secret, write_private

_USER = "lathe"


class NatsServer:
    """One NATS server over one data directory.

    Args:
        data_dir: Folder of the server; made by the first start.
        port: Wanted port; a taken or absent one is replaced by a free one.
        durable: False leaves syncing to a timer: quicker, for tests.
        log_path: Log file; `nats.log` in the data directory by default.
    """

    def __init__(
        self, data_dir: Path, port: int | None = None, *, durable: bool = True, log_path: Path | None = None
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.port = port or 0
        self._durable = durable
        self._log_path = log_path or self.data_dir / "nats.log"
        self.process: ChildProcess | None = None

    @property
    def _password(self) -> str:
        return stored_secret(self.data_dir / "password")

    @property
    def url(self) -> str:
        """URL for clients, password included."""
        return f"nats://{_USER}:{self._password}@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server; returns when it takes connections and JetStream is on.

        Raises:
            LocalError: It did not start; the text carries the last lines of its log.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
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
        """End the server; its state stays in the data directory."""
        if self.process:
            self.process.stop()
            self.process = None

    def _run(self) -> None:
        config = self.data_dir / "nats.conf"
        write_private(config, self._configuration())
        self.process = ChildProcess(
            name="nats",
            command=[str(installed_binary("nats-server", "LATHE_NATS_URL")), "--config", str(config)],
            log_path=self._log_path,
            cwd=self.data_dir,
            environment={**os.environ, "GOMEMLIMIT": "256MiB"},
        )
        self.process.start()
        self.process.wait_until(self._ready)

    def _configuration(self) -> str:
        sync = "always" if self._durable else "2m"
        return "\n".join([
            "server_name: lathe",
            f'listen: "127.0.0.1:{self.port}"',
            f'authorization {{ user: {json.dumps(_USER)}, password: "{self._password}" }}',
            f"jetstream {{ store_dir: {json.dumps(str(self.data_dir))}, sync_interval: {sync} }}",
            "max_payload: 4MB",
            "",
        ])  # fmt: skip

    def _ready(self) -> bool:
        """Speak the protocol's first lines: INFO, CONNECT, PING, PONG."""
        options = json.dumps({"user": _USER, "pass": self._password, "verbose": False, "pedantic": False})
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                greeting = connection.recv(65536)
                connection.sendall(f"CONNECT {options}\r\nPING\r\n".encode())
                return b'"jetstream":true' in greeting and connection.recv(64).startswith(b"PONG")
        except OSError:
            return False
