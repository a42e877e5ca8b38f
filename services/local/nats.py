"""An embedded NATS server with JetStream, on 127.0.0.1, that has every acknowledged message on disk."""

from __future__ import annotations

import json
import os
import socket

from services.local.process import ChildProcess
from services.local.secret import stored_secret, write_private
from services.local.server import LocalServer, installed_binary

_USER = "lathe"


class NatsServer(LocalServer):
    """One NATS server over one data directory; every acknowledged message is on disk unless `durable` is False."""

    name = "nats"

    @property
    def _password(self) -> str:
        return stored_secret(self.data_dir / "password")

    @property
    def url(self) -> str:
        """URL for clients, including the password."""
        return f"nats://{_USER}:{self._password}@127.0.0.1:{self.port}"

    def make_process(self) -> ChildProcess:
        """Return the server's process."""
        config = self.data_dir / "nats.conf"
        write_private(config, self._configuration())
        return ChildProcess(
            name=self.name,
            command=[str(installed_binary("nats-server", "LATHE_NATS_URL")), "--config", str(config)],
            log_path=self.log_path,
            cwd=self.data_dir,
            environment={**os.environ, "GOMEMLIMIT": "256MiB"},
        )

    def _configuration(self) -> str:
        sync = "always" if self.durable else "2m"
        return "\n".join([
            "server_name: lathe",
            f'listen: "127.0.0.1:{self.port}"',
            f'authorization {{ user: {json.dumps(_USER)}, password: "{self._password}" }}',
            f"jetstream {{ store_dir: {json.dumps(str(self.data_dir))}, sync_interval: {sync} }}",
            "max_payload: 4MB",
            "",
        ])  # fmt: skip

    def answers(self) -> bool:
        """Exchange the protocol's first lines: INFO, CONNECT, PING, PONG."""
        options = json.dumps({"user": _USER, "pass": self._password, "verbose": False, "pedantic": False})
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                greeting = connection.recv(65536)
                connection.sendall(f"CONNECT {options}\r\nPING\r\n".encode())
                return b'"jetstream":true' in greeting and connection.recv(64).startswith(b"PONG")
        except OSError:
            return False
