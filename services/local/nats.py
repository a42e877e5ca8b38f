"""An embedded NATS server with JetStream, on 127.0.0.1, that has every acknowledged message on disk.

Each process of the suite is a user of its own, with the rights of its role; their owner may do everything.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping

from services.bus.rights import Rights, authorization
from services.local.process import ChildProcess
from services.local.secret import stored_secret, write_private
from services.local.server import LocalServer, installed_binary

OWNER = "lathe"


class NatsServer(LocalServer):
    """One NATS server over one data directory; every acknowledged message is on disk unless `durable` is False.

    Attributes:
        users: What each user but the owner may do, by name; set before the start.
    """

    name = "nats"
    users: Mapping[str, Rights] = {}

    @property
    def url(self) -> str:
        """URL for the owner, including the password."""
        return self.url_of(OWNER)

    def url_of(self, user: str) -> str:
        """Return the URL for a user, including the password."""
        return f"nats://{user}:{self._password_of(user)}@127.0.0.1:{self.port}"

    def _password_of(self, user: str) -> str:
        return stored_secret(self.data_dir / ("password" if user == OWNER else f"password-{user}"))

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
        passwords = {user: json.dumps(self._password_of(user)) for user in (OWNER, *self.users)}
        return "\n".join([
            "server_name: lathe",
            f'listen: "127.0.0.1:{self.port}"',
            authorization(OWNER, self.users, passwords),
            f"jetstream {{ store_dir: {json.dumps(str(self.data_dir))}, sync_interval: {sync} }}",
            "max_payload: 4MB",
            "",
        ])  # fmt: skip

    def answers(self) -> bool:
        """Exchange the protocol's first lines: INFO, CONNECT, PING, PONG."""
        options = json.dumps({"user": OWNER, "pass": self._password_of(OWNER), "verbose": False, "pedantic": False})
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                greeting = connection.recv(65536)
                connection.sendall(f"CONNECT {options}\r\nPING\r\n".encode())
                return b'"jetstream":true' in greeting and connection.recv(64).startswith(b"PONG")
        except OSError:
            return False
