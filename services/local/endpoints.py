"""`endpoints.json` in the data directory: the addresses of the running stack, for all commands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from services.local.secret import write_private

FILE_NAME = "endpoints.json"
Role = Literal["server", "service", "worker"]


@dataclass(frozen=True)
class Endpoint:
    """One part of a running stack.

    Attributes:
        name: Its name, which is also the name of its log.
        role: "server" (PostgreSQL, NATS, S3), "service" (gRPC) or "worker".
        address: host:port, without credentials; empty for a worker.
        pid: Process id, or 0 for an existing server that the stack did not start.
    """

    name: str
    role: Role
    address: str
    pid: int


@dataclass(frozen=True)
class Endpoints:
    """All parts of a stack, and the process that supervises them."""

    supervisor_pid: int
    parts: tuple[Endpoint, ...]

    def addresses(self) -> dict[str, str]:
        """Return service name → host:port."""
        return {part.name: part.address for part in self.parts if part.role == "service"}


def write_endpoints(data_dir: Path, supervisor_pid: int, parts: Sequence[Endpoint]) -> None:
    """Replace the file of a data directory."""
    content = {"supervisor_pid": supervisor_pid, "parts": [asdict(part) for part in parts]}
    write_private(data_dir / FILE_NAME, json.dumps(content, indent=2) + "\n")


def read_endpoints(data_dir: Path) -> Endpoints | None:
    """Return the contents of the file of a data directory, or None if it is missing or unreadable."""
    try:
        content = json.loads((data_dir / FILE_NAME).read_text())
        parts = tuple(Endpoint(**part) for part in content["parts"])
        return Endpoints(int(content["supervisor_pid"]), parts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remove_endpoints(data_dir: Path) -> None:
    """Remove the file, when nothing runs any more."""
    (data_dir / FILE_NAME).unlink(missing_ok=True)
